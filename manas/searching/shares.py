"""The steps of the candidates of random search, which together have the compute of a search by gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from manas.cost.counting import measure
from manas.searching.compute import OF_WEIGHTS, Meter, layers_behind_forks
from manas.searching.config import SearchConfig
from manas.searching.search_data import SearchData


def equal_shares(config: SearchConfig, data: SearchData, candidates: Sequence[Mapping[str, str]]) -> list[int]:
    """The number of steps of each candidate, one at least; its training and its score are its share.

    Args:
        candidates: the choices of each.
    """
    networks = [config.space.network(choices) for choices in candidates]
    sides = (config.data.patch, config.data.validation_patch)
    macs, larger = ([measure(n, "macs", (3, side, side)) for n in networks] for side in sides)
    validations = [data.images_of_validation * each for each in larger]
    whole = compute_by_gradient(config, data, sum(validations) / len(validations))
    shares = [
        whole / len(networks) - validation - data.statistics.images(network) * own
        for network, own, validation in zip(networks, macs, validations, strict=True)
    ]
    return [_steps(share, data.images_of_a_step * own) for share, own in zip(shares, macs, strict=True)]


def compute_by_gradient(config: SearchConfig, data: SearchData, derived: float) -> float:
    """The MACs of the steps and validations of a search by gradient: softmax, first order, argmax.

    Args:
        derived: MACs of the validation of its derived network, which is not known before.
    """
    with torch.device("meta"):
        supernet = config.space.supernet().eval()
    meter = Meter()
    meter.watch(supernet, layers_behind_forks(config.space, config.input))
    supernet(_image(config.data.patch))
    weights = meter.training
    with meter.gradient_of_alphas():
        supernet(_image(config.data.patch))
    alphas = meter.training - weights
    with torch.no_grad():
        supernet(_image(config.data.validation_patch))
    steps, moving = config.total_steps, config.total_steps - config.first_alpha_step
    training = data.images_of_a_step * (steps * weights + moving * alphas)
    return training + config.epochs * (data.images_of_validation * meter.judging + derived)


def _image(side: int) -> Tensor:
    return torch.empty(1, 3, side, side, device="meta")


def _steps(compute: float, forward: float) -> int:
    """The number of steps of the weights that a compute is enough for."""
    # Without multiply-accumulates a network learns nothing, and its steps would cost nothing.
    return max(1, round(compute / (OF_WEIGHTS.before * forward))) if forward else 0
