"""The samples of GDAS: one candidate at a time, by Gumbel noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import Tensor
from torch.nn.functional import log_softmax

from manas.architecture.choice import Choice, Moment
from manas.architecture.weighting import named
from manas.relaxations.base import Relaxation, Scheduled, noise_of, scheduled


class Gumbel(Relaxation):
    """GDAS (Dong and Yang, CVPR 2019, eqs. 3-5): one candidate is sampled, with a straight-through gradient.

    s = softmax((log softmax(alpha) + g) / temperature) with Gumbel noise g; w = onehot(argmax s) + s - sg(s).
    Where the alphas do not learn, the sampled candidate alone is run; the others cost nothing.

    Where they do, GDAS runs the sampled candidate alone, too, so that of the gradient <dL/dy, sum_k y_k ds_k>
    one term is left. On a tie all terms together are zero and one alone is not, so that the alphas drift. Here
    all candidates are run, unless `runs` says otherwise, and the gradient is that of the whole sum.

    Attributes:
        temperature: of the soft sample s, from the start of the search to its end.
        runs: the candidates that are run where the alphas learn: ``all``, or ``sampled``, GDAS's own rule. By
            that rule, too, all are run in a choice with a zero: an output that is always zero has no gradient,
            so the zero, once sampled, could be left by luck alone.
    """

    is_softmax: ClassVar[bool] = True

    temperature: Scheduled = (10.0, 0.1)
    runs: Literal["all", "sampled"] = "all"
    _alphas_learn: bool = PrivateAttr(default=True)
    _noise: dict[str, Tensor] = PrivateAttr(default_factory=dict)  # (K,) by label
    _sampled: dict[str, str] = PrivateAttr(default_factory=dict)

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Gumbel:
        sample = self.model_copy(update={"temperature": scheduled(self.temperature, moment.progress)})
        sample._alphas_learn = moment.alphas_learn
        sizes = [len(choice.names) for choice in choices]
        noise = np.concatenate([noise_of(moment, choice).gumbel(size=len(choice.names)) for choice in choices])
        flat = torch.from_numpy(noise).to(choices[0].alpha)
        sample._noise = {c.label: part for c, part in zip(choices, flat.split(sizes), strict=True)}
        # Which modules run is decided on the host: the device is waited for once, for all choices together.
        places = torch.stack([sample._soft(choice).argmax() for choice in choices]).tolist()
        sample._sampled = {c.label: c.names[place] for c, place in zip(choices, places, strict=True)}
        return sample

    def logits(self, choice: Choice) -> Tensor:
        return choice.alpha

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        soft = self._soft(choice)
        sampled = choice.names.index(self._sampled[choice.label])
        hard = torch.zeros_like(soft)
        hard[sampled] = 1
        weights = named(choice, hard + (soft - soft.detach()))  # in this order the values are exactly 0 and 1
        if self._alphas_learn and (self.runs == "all" or choice.zero):
            return weights
        return {choice.names[sampled]: weights[choice.names[sampled]]}

    def _soft(self, choice: Choice) -> Tensor:
        noisy = log_softmax(choice.alpha, 0) + self._noise[choice.label]
        return torch.softmax(noisy / scheduled(self.temperature, 0), 0)
