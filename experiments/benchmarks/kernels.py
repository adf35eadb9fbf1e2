"""The share of wrong backward passes of the layers that restoration networks use, for the torch that runs it.

    python experiments/benchmarks/kernels.py [--passes 20] [--threads 1] [--images 4] [--device cpu]

The script needs torch alone, so that it can be run with many versions. A pass is wrong if the gradient of the
weight or of the input is further from that in float64 than a sixteenth of its norm; rounding to bfloat16 is a
five-hundredth. The largest error of all passes stands beside the share.
"""

import argparse
import platform

import torch
from torch import nn

WIDTHS = (24, 32, 64)
CHANNELS = 16
KINDS = {
    "conv 3x3": lambda c: nn.Conv2d(c, c, 3, padding=1, bias=False),
    "conv 3x3, stride 2": lambda c: nn.Conv2d(c, c, 3, 2, 1, bias=False),
    "conv 3x3, dilation 2": lambda c: nn.Conv2d(c, c, 3, padding=2, dilation=2, bias=False),
    "conv 3x3, depthwise": lambda c: nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False),
    "conv 3x3, depthwise, stride 2": lambda c: nn.Conv2d(c, c, 3, 2, 1, groups=c, bias=False),
    "conv 3x3, depthwise, dilation 2": lambda c: nn.Conv2d(c, c, 3, 1, 2, 2, groups=c, bias=False),
    "conv 3x3, depthwise, dilation 3": lambda c: nn.Conv2d(c, c, 3, 1, 3, 3, groups=c, bias=False),
    "conv 5x5, depthwise, dilation 2": lambda c: nn.Conv2d(c, c, 5, 1, 4, 2, groups=c, bias=False),
    "conv 3x3, 2 groups, dilation 2": lambda c: nn.Conv2d(c, c, 3, 1, 2, 2, groups=2, bias=False),
    "conv 5x5, depthwise": lambda c: nn.Conv2d(c, c, 5, padding=2, groups=c, bias=False),
    "conv 1x1": lambda c: nn.Conv2d(c, c, 1, bias=False),
    "batch norm": nn.BatchNorm2d,
}
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = 2**-4


def gradients(layer, x, along, device, precision):
    """The gradients of the input and of the weight, with the layer under autocast in reduced precision."""
    x = x.detach().requires_grad_()
    lowered = precision != torch.float32
    with torch.autocast(device, torch.bfloat16, enabled=lowered):
        y = layer(x)
    return torch.autograd.grad(y, [x, layer.weight], along.to(y.dtype))


def errors(kind, memory, precision, width, options):
    """The error of each pass, on random numbers of its own."""
    for seed in range(options.passes):
        torch.manual_seed(seed)
        layer = KINDS[kind](CHANNELS).to(options.device, memory_format=memory)
        shape = (options.images, CHANNELS, width, width)
        x = torch.randn(shape, device=options.device).to(precision).to(memory_format=memory)
        along = torch.randn_like(layer(x.float()))
        along = along.to(precision).float()
        rounded = gradients(layer, x, along, options.device, precision)
        usual = layer.to(memory_format=torch.contiguous_format).double()
        exact = gradients(usual, x.double().contiguous(), along.double(), options.device, torch.float32)
        off = [float((f.double() - e).norm() / e.norm()) for f, e in zip(rounded, exact, strict=True)]
        yield max(off, key=lambda error: float("inf") if error != error else error)  # NaN is the largest error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    where = (
        torch.cuda.get_device_name() if options.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    )
    print(f"torch {torch.__version__}, {platform.machine()}, {where}, {options.threads} threads, "
          f"{options.passes} passes of {options.images} x {CHANNELS} channels")  # fmt: skip
    names = [f"{width} px" for width in WIDTHS]
    print("| layer | memory | precision | " + " | ".join(names) + " |\n|---|---|---|" + "---|" * len(names))
    for kind in KINDS:
        for memory, layout in FORMATS.items():
            for precision, dtype in PRECISIONS.items():
                cells = []
                for width in WIDTHS:
                    off = list(errors(kind, layout, dtype, width, options))
                    wrong = sum(not error <= TOLERANCE for error in off)
                    cells.append(f"{wrong / len(off):.0%} ({max(off):.1g})" if wrong else "0%")
                print(f"| {kind} | {memory} | {precision} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
