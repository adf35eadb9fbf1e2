"""The review of a supernet at the end of each epoch: its health, and the architecture that it would derive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from manas.architecture.choice import choices_of, probabilities_of, relaxed_by
from manas.architecture.weighting import OneHot
from manas.cost.architectures import Architectures
from manas.searching.config import SearchConfig
from manas.searching.health import SKIP, Health, entropy_by_group, shares_by_group, tally
from manas.searching.search_data import SearchData
from manas.searching.verdict import Stop, should_stop


class Review:
    """The health of a supernet over its epochs.

    Attributes:
        history: the health of every epoch.
        choices: the architecture that the last epoch would derive.
        stop: the reason and the epoch of an early end, or None.
    """

    def __init__(
        self, network: nn.Module, data: SearchData, architectures: Architectures, config: SearchConfig
    ):
        self.network, self.data, self.architectures, self.config = network, data, architectures, config
        self.history: list[Health] = []
        self.choices: dict[str, str] = {}
        self.stop: Stop | None = None

    def add(self, epoch: int, gradient: float | None, eigenvalue: float | None) -> dict[str, float]:
        """Reviews the supernet under its present relaxation; returns all numbers for the logs.

        Args:
            gradient: the mean norm of the gradient of the alphas, or None before they move.
            eigenvalue: the dominant eigenvalue of the loss in the alphas, or None if it was not measured.
        """
        probabilities = self._probabilities()
        self.choices = self.architectures.argmax(probabilities)
        health = self.health(self.choices, epoch, gradient, eigenvalue)
        self.history.append(health)
        self.stop = should_stop(self.history, self.config.stop)
        return self._numbers(health) | {
            f"probabilities/{label}/{name}": p
            for label, by_name in probabilities.items()
            for name, p in by_name.items()
        }

    def health(
        self,
        choices: Mapping[str, str],
        epoch: int,
        gradient: float | None = None,
        eigenvalue: float | None = None,
    ) -> Health:
        """The health of the supernet if these choices are derived from it."""
        training = self.config.alpha_statistics == "batch"
        relaxed = self.data.psnr(self.network, training=training)
        with relaxed_by(self.network, OneHot(choices)):
            one_hot = self.data.psnr(self.network, training=training)
        forks = choices_of(self.network)
        candidates = {fork.label: fork.names for fork in forks}
        skips = {label: SKIP for label, names in candidates.items() if SKIP in names}
        zeros = {fork.label: fork.zero for fork in forks if fork.zero is not None}
        return Health(
            epoch=epoch,
            psnr_relaxed=relaxed,
            psnr_one_hot=one_hot,
            entropy=entropy_by_group(self.network),
            skips=tally(skips, choices, candidates),
            zeros=tally(zeros, choices, candidates),
            gradient=gradient,
            eigenvalue=eigenvalue,
        )

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {
            "choices": self.choices,
            "history": [health.to_dict() for health in self.history],
            "stop": asdict(self.stop) if self.stop else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.choices = state["choices"]
        self.history = [Health.from_dict(values) for values in state["history"]]
        self.stop = Stop(**state["stop"]) if state["stop"] else None

    def _numbers(self, health: Health) -> dict[str, float]:
        numbers = {f"validation/{k}": v for k, v in (health.scores | {"input": self.data.input}).items()}
        measurements = {
            "skip_share": health.skip_share,
            "zero_share": health.zero_share,
            "alpha_gradient": health.gradient,
            "eigenvalue": health.eigenvalue,
            "cost": self.architectures.table.exact(self.choices),
        }
        numbers |= {f"health/{k}": v for k, v in measurements.items() if v is not None}
        numbers |= {f"entropy/{tag}": value for tag, value in health.entropy.items()}
        for tag, shares in shares_by_group(self.network).items():
            numbers |= {f"shares/{tag}/{name}": share for name, share in shares.items()}
        return numbers

    def _probabilities(self) -> dict[str, dict[str, float]]:
        names = {choice.label: choice.names for choice in choices_of(self.network)}
        probabilities = probabilities_of(self.network)
        return {label: dict(zip(names[label], p.tolist(), strict=True)) for label, p in probabilities.items()}
