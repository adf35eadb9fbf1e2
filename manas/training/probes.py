"""Probes of single layers, which tell whether their kernels are right in reduced precision.

Layers are of one kind if they run on the same kernels (`Kind`). A layer of each kind is run forward and
backward on random numbers, in reduced precision and in float32, and its output and all its gradients are
compared.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from manas.architecture.choice import relaxed_by
from manas.architecture.recomputation import RestingBuffers
from manas.relaxations.base import Noiseless
from manas.relaxations.softmax import Softmax
from manas.restoration.precision import full_precision

Lowered = Callable[[], AbstractContextManager]  # makes a block of autocast, anew for every pass
Part = Literal["output", "gradient"]
Kinds = dict["Kind", dict[str, nn.Module]]  # the layers of each kind by their names in the network

# Sums are rounded to bfloat16 at their ends alone (2^-9 of their size); a sixteenth is far beyond that, and a
# kernel that reads the wrong numbers is off by more than all.
TOLERANCE = 2**-4
FEW = 2  # images: a kernel is picked by channels and sizes, and the known fault shows with any number of images
LEAST, MOST = 3, 16  # passes of a kind: a fault that comes and goes needs several to show
POISONED = 1 << 20  # bytes; larger blocks would take longer to fill than the pass itself takes


class Kind(NamedTuple):
    """The properties of a layer and its input that decide which kernels run.

    Attributes:
        family: the kernel in words, without channels and sizes.
        settings: the settings of the layer as its class prints them, and the shapes of its weights.
        shape, stride: shape and stride of the input for `FEW` images.
        dtype: type of the input.
        result: type of the output under autocast.
    """

    family: str
    settings: tuple[str, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    result: torch.dtype

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor, y: Tensor) -> Kind:
        """The kind of a layer that makes `y` of `x`."""
        weights = (str(tuple(weight.shape)) for weight in layer.parameters())
        settings = (type(layer).__qualname__, layer.extra_repr(), *weights)
        return cls(_family(layer, x), settings, tuple(x.shape), x.stride(), x.dtype, y.dtype)

    def input(self, images: int, device: torch.device) -> Tensor:
        """Random numbers in the shape, layout and type of the layer's input for a batch of so many images."""
        shape = (max(1, self.shape[0] * images // FEW), *self.shape[1:])
        if 0 in self.stride:  # an expanded tensor, which cannot be filled
            return _random(torch.empty(shape, device=device, dtype=self.dtype))
        return _random(torch.empty_strided(shape, self.stride, device=device, dtype=self.dtype))


def _family(layer: nn.Module, x: Tensor) -> str:
    """A family in words, without usual settings: ``Conv2d 3x3, dilation 2, depthwise, channels_last``."""
    words = [type(layer).__name__]
    if isinstance(layer, _ConvNd):
        words[0] += f" {'x'.join(map(str, layer.kernel_size))}"
        for name, setting in (("stride", layer.stride), ("dilation", layer.dilation)):
            words += [f"{name} {'x'.join(map(str, dict.fromkeys(setting)))}"] if set(setting) != {1} else []
        if layer.groups > 1:
            words.append("depthwise" if layer.groups == layer.in_channels else "grouped")
    if x.ndim >= 4:
        words.append("channels_last" if x.stride(1) == 1 else "contiguous")
    return ", ".join(words)


def kinds_of(network: nn.Module, size: int, device: torch.device, lowered: Lowered) -> Kinds:
    """The layers of a network by kind, found by one forward pass in training mode, which changes nothing.

    All candidates of a supernet are run, whichever of them its relaxation would sample.

    Args:
        size: height and width of an image.
    """
    kinds: Kinds = defaultdict(dict)

    def note(name: str, layer: nn.Module, inputs: tuple, output: Any) -> None:
        if len(inputs) == 1 and _is_floating(inputs[0]) and _is_floating(output):
            kinds[Kind.of(layer, inputs[0], output)][name] = layer

    hooks = [
        m.register_forward_hook(partial(note, name)) for name, m in network.named_modules() if _is_layer(m)
    ]
    images = torch.rand(FEW, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), RestingBuffers(network), relaxed_by(network, Noiseless(Softmax())), lowered():
            network.train()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return dict(kinds)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has weights or statistics of its own and no modules inside it."""
    computes = isinstance(module, _NormBase) or next(module.parameters(), None) is not None
    return computes and next(module.children(), None) is None


def _is_floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


class Probe:
    """A copy of a layer that is run alone, on inputs of its kind.

    Args:
        images: the number of images in a batch of the training.
        lowered: makes a block of reduced precision.
    """

    def __init__(self, layer: nn.Module, kind: Kind, images: int, device: torch.device, lowered: Lowered):
        self.layer, self.kind, self.images = copy.deepcopy(layer).train(), kind, images
        self.device, self.lowered = device, lowered
        with torch.no_grad():
            for weight in self.layer.parameters():
                if not weight.any():  # under a zero weight the gradient of the input is zero, right or wrong
                    weight.normal_()

    def wrong(self, seconds: float) -> Part | None:
        """The part that is wrong in some pass, or None; `seconds` allow more passes, and whole batches."""
        start = perf_counter()
        part = self._wrong(min(FEW, self.images), LEAST, start + seconds)
        whole = (perf_counter() - start) * self.images / FEW
        if part or self.images <= FEW or perf_counter() + whole > start + seconds:
            return part
        return self._wrong(self.images, 1, start + seconds)

    def seconds(self) -> float:
        """The time of a pass in seconds: the shortest of several, since other programs may be at work."""
        x = self.kind.input(min(FEW, self.images), self.device)
        return min(self._timed(x) for _ in range(LEAST))

    def _wrong(self, images: int, least: int, deadline: float) -> Part | None:
        x = self.kind.input(images, self.device)
        with full_precision(self.device):
            along = _random(torch.empty_like(self.layer(x.float())))
            along = along.to(self.kind.result).float()  # rounded before, so that both passes get equal numbers
            exact = self._pass(x.float(), along)
        for done in range(MOST):
            if done >= least and perf_counter() > deadline:
                break
            with self.lowered():
                rounded = self._pass(x, along)
            off = [_is_off(*pair) for pair in zip(rounded, exact, strict=True)]
            first, *others = torch.stack(off).tolist()
            if first or any(others):
                return "output" if first else "gradient"
        return None

    def _pass(self, x: Tensor, along: Tensor) -> list[Tensor]:
        """The output, and the gradients of the input and of the weights."""
        weights = [weight for weight in self.layer.parameters() if weight.requires_grad]
        x = x.detach().requires_grad_()
        poison([x, *weights])
        seed(self.device)  # a layer with dropout then drops the same in every pass
        y = self.layer(x)
        poison([x, *weights])
        # Without autocast, as in the backward pass of a training.
        with torch.autocast(self.device.type, enabled=False):
            gradients = torch.autograd.grad(y, [x, *weights], along.to(y.dtype), materialize_grads=True)
        return [y.detach(), *gradients]

    def _timed(self, x: Tensor) -> float:
        self._synchronise()
        start = perf_counter()
        with self.lowered():
            y = self.layer(x.detach().requires_grad_())
        y.float().sum().backward()
        self._synchronise()
        return perf_counter() - start

    def _synchronise(self) -> None:
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).synchronize()


def seed(device: torch.device) -> None:
    """Seeds the draws on the CPU and on the device, far faster than `torch.manual_seed`, which takes 1 ms."""
    torch.default_generator.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.manual_seed(0)


def _random(tensor: Tensor) -> Tensor:
    """Fills a tensor with uniform numbers, which take a tenth of the time of normal ones."""
    return tensor.detach().uniform_(-1, 1)


def _is_off(rounded: Tensor, exact: Tensor) -> Tensor:
    """Whether a tensor is further from the exact one than rounding explains; false if that is not finite."""
    error, size = (rounded.float() - exact).norm(), exact.norm()
    # Negated, since a comparison with NaN is false, and a NaN is off.
    return ~(error <= TOLERANCE * size) & size.isfinite()


def poison(tensors: Sequence[Tensor]) -> None:
    """Fills memory of the sizes that a kernel is about to allocate with NaN, and frees it again.

    In a young process, memory that nobody has written holds zeros, with which a wrong kernel is right by luck.
    """
    sizes = {tensor.numel() * width for tensor in tensors for width in (2, 4)} | {1 << 10, 1 << 12, 1 << 14}
    device = tensors[0].device
    lengths = [size // 4 + 1 for size in sizes if size <= POISONED]
    blocks = [torch.full((length,), float("nan"), device=device) for length in lengths]
    blocks.clear()
