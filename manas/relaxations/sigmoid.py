"""The independent weights of FairDARTS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from manas.architecture.choice import Choice
from manas.architecture.weighting import named
from manas.relaxations.base import Relaxation, Weight


class Sigmoid(Relaxation):
    """FairDARTS (Chu et al., ECCV 2020): independent weights w = sigmoid(alpha), which do not compete.

    The probabilities of selection and cost are w / sum(w). The weight of a zero is held at 1/2, since its
    output is zero whatever its weight: it is chosen where no other candidate exceeds 1/2. At a fork without a
    zero the weights are w / sum(w), too: the mixture is a mean, and features, images and stitches keep their
    scale.

    Attributes:
        zero_one: weight of the zero-one loss, -mean (sigmoid(alpha) - 1/2)^2 (eq. 5 there).
    """

    zero_one: Weight = 10.0

    def logits(self, choice: Choice) -> Tensor:
        return logsigmoid(self._alpha(choice))

    def mean_weights(self, choice: Choice) -> dict[str, Tensor]:
        return named(choice, self._alpha(choice).sigmoid() if choice.zero else self.probabilities(choice))

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        weights = torch.cat([self._alpha(choice).sigmoid() for choice in choices])
        return {"zero_one": -self.zero_one * (weights - 0.5).square().mean()}

    def _alpha(self, choice: Choice) -> Tensor:
        """(K,) alpha, with 0 in the place of a zero."""
        if choice.zero is None:
            return choice.alpha
        alpha = choice.alpha.clone()  # a leaf of the graph cannot be written into
        alpha[choice.names.index(choice.zero)] = 0
        return alpha
