"""The rules by which a search ends early, and the verdict on its result in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import bdtrc

from manas.errors import ManasError
from manas.searching.growth import GROWTH, LAG, WINDOW, Rule, eigenvalue_growth
from manas.searching.health import Health, Tally

UNDECIDED = 0.95  # entropy: the better of two candidates then has a probability of 0.63, the best of nine 0.28
COLLAPSED = 0.7  # share of forks with one choice: most of the network is no longer a choice
BY_CHANCE = 0.01  # a share that is more probable by lot says nothing, as with few forks it may be
LARGE_GAP = 1.0  # dB: a quarter more squared error


class StopConfig(BaseModel):
    """The rules by which a search ends early; none is set by default.

    Epochs before the alphas moved do not count.

    Attributes:
        eigenvalue_growth: stop when the eigenvalue, averaged over `eigenvalue_window` epochs, has grown by more
            than this factor in `eigenvalue_lag` epochs (RobustDARTS, Zela et al., ICLR 2020: 1.3, 5, 4). The
            result is the genotype of the earlier epoch.
        eigenvalue_rule: ``trend`` also asks that the eigenvalues have a trend, which noise seldom has;
            ``published`` does not, and noise alone often ends a search by it (`manas.searching.growth`).
        skip_share: stop when this share of the forks that offer `skip_connect` chose it. The result is the
            genotype of the last epoch below it.
        patience: stop when the one-hot PSNR has not been beaten for so many epochs. The result is the genotype
            of the best epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    eigenvalue_growth: float | None = Field(None, gt=1, allow_inf_nan=False)
    eigenvalue_window: int = Field(WINDOW, ge=1)
    eigenvalue_lag: int = Field(LAG, ge=1)
    eigenvalue_rule: Rule = "trend"
    skip_share: float | None = Field(None, gt=0, le=1)
    patience: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> StopConfig:
        given = (self.eigenvalue_window, self.eigenvalue_lag, self.eigenvalue_rule)
        if given != (WINDOW, LAG, "trend") and self.eigenvalue_growth is None:
            raise ManasError(
                "eigenvalue_window, eigenvalue_lag and eigenvalue_rule have no effect; give eigenvalue_growth, "
                "such as 1.3"
            )
        return self


@dataclass(frozen=True)
class Stop:
    """The reason why a search ended early, in a sentence, and the epoch whose genotype is its result."""

    reason: str
    epoch: int


def should_stop(history: Sequence[Health], config: StopConfig) -> Stop | None:
    """The rule that ends the search after the last epoch of its history, or None to go on.

    If several rules do, growth of the eigenvalue goes before skips, and skips before patience.

    Args:
        history: all epochs so far; epochs before the alphas moved do not count.
        config: the rules.
    """
    searched = _searched(history)
    if not searched:
        return None
    stops = (_if_sharp(searched, config), _if_skipping(searched, config), _if_no_better(searched, config))
    return next((stop for stop in stops if stop), None)


def _if_sharp(searched: Sequence[Health], config: StopConfig) -> Stop | None:
    limit = config.eigenvalue_growth
    growth = eigenvalue_growth(searched, config.eigenvalue_window, config.eigenvalue_lag)
    if limit is None or growth is None or not growth.exceeds(limit, config.eigenvalue_rule):
        return None
    return Stop(f"the eigenvalue of the alphas {growth}; the limit is {limit:g} times", growth.epoch)


def _if_skipping(searched: Sequence[Health], config: StopConfig) -> Stop | None:
    skips, limit = searched[-1].skips, config.skip_share
    if limit is None or (skips.share or 0) < limit:
        return None
    below = [epoch for epoch in searched if (epoch.skip_share or 0) < limit]
    reason = f"{skips.chosen} of {skips.offered} forks chose skip connections; the limit is {limit:.0%}"
    return Stop(reason, (below or searched[:1])[-1].epoch)


def _if_no_better(searched: Sequence[Health], config: StopConfig) -> Stop | None:
    scores = [-math.inf if math.isnan(epoch.psnr_one_hot) else epoch.psnr_one_hot for epoch in searched]
    best = scores.index(max(scores))
    since = len(scores) - 1 - best
    if config.patience is None or since < config.patience:
        return None
    reason = f"the one-hot PSNR has not been better than {scores[best]:.2f} dB for {since} epochs"
    return Stop(reason, searched[best].epoch)


def verdict(history: Sequence[Health], *, epoch: int | None = None, by_alphas: bool = True) -> list[str]:
    """The findings on the result of a search, one sentence each, or the sentence that there are none.

    Each sentence tells the finding, its meaning and the remedy. If the alphas never moved, that is the only
    finding, since everything else is then an accident.

    Args:
        history: all epochs.
        epoch: the epoch whose genotype is the result, as `Stop.epoch`; later epochs do not count. The last
            epoch unless given.
        by_alphas: whether the alphas chose; otherwise the verdict says nothing of them.
    """
    counted = [each for each in history if epoch is None or each.epoch <= epoch]
    if by_alphas and not any(each.gradient and math.isfinite(each.gradient) for each in counted):
        return [_resting(counted)]
    last = counted[-1]
    collapses = [_collapse(last.skips, "skip connections", "search for fewer epochs or set stop.skip_share")]
    collapses += [_collapse(last.zeros, "zeros", "lower complexity.weight or search without such candidates")]
    findings = [*collapses, _gap(last)]
    if by_alphas:
        findings = [*_undecided(last), *findings, _sharp(_searched(counted))]
    return [sentence for sentence in findings if sentence] or [_well(last, by_alphas)]


def _searched(history: Sequence[Health]) -> list[Health]:
    """The epochs in which the alphas moved."""
    return [epoch for epoch in history if epoch.gradient is not None]


def _resting(history: Sequence[Health]) -> str:
    epochs = len(_searched(history))
    if not epochs:
        return (
            f"the alphas were at rest throughout (epochs: {len(history)}), so the genotype is a random draw; "
            "lower warmup or search for more epochs"
        )
    return (
        f"the gradient of the alphas was zero or not finite throughout (epochs: {epochs}), so the genotype is "
        "a random draw; check the losses and their weights"
    )


def _undecided(last: Health) -> Iterator[str]:
    for tag, entropy in last.entropy.items():
        if entropy > UNDECIDED:
            yield (
                f"the choices {tag} are undecided: entropy {entropy:.2f} of 1, so the genotype is close to a "
                "random draw there; search longer or raise alphas.rate"
            )


def _collapse(tally: Tally, what: str, remedy: str) -> str | None:
    """The sentence on a candidate whose share is large, and larger than chance explains; else None.

    Chance is a binomial number at the mean chance of the forks. Forks may offer different numbers of
    candidates; the binomial tail is then an upper bound of the true one (Hoeffding, 1956).
    """
    if not tally.offered or tally.chosen < COLLAPSED * tally.offered:
        return None
    if bdtrc(tally.chosen - 1, tally.offered, tally.chance) > BY_CHANCE:  # the probability of so many or more
        return None
    by_lot = tally.chance * tally.offered
    return (
        f"collapsed to {what}: {tally.chosen} of {tally.offered} forks, by lot {by_lot:.0f}; the other "
        f"candidates go unused; {remedy}"
    )


def _gap(last: Health) -> str | None:
    if math.isnan(last.psnr_relaxed) or math.isnan(last.psnr_one_hot):
        return "the PSNR is not a number, so nothing can be said of the genotype; lower weights.rate"
    if not last.gap > LARGE_GAP:
        return None
    return (
        f"the derived network is {last.gap:.1f} dB below the relaxed one ({last.psnr_one_hot:.1f} and "
        f"{last.psnr_relaxed:.1f} dB): its candidates lean on the others; search longer or raise the weight "
        "architecture"
    )


def _sharp(searched: Sequence[Health]) -> str | None:
    growth = eigenvalue_growth(searched)
    if growth is None or not growth.exceeds(GROWTH):
        return None
    return (
        f"the eigenvalue of the alphas {growth}: such genotypes tend to restore worse; retrain that of epoch "
        f"{growth.epoch} as well, or set stop.eigenvalue_growth"
    )


def _well(last: Health, by_alphas: bool) -> str:
    entropy = f"entropy at most {max(last.entropy.values(), default=0.0):.2f} of 1, " if by_alphas else ""
    return (
        f"the search ran as it should: {entropy}{last.skips.chosen} of {last.skips.offered} skip "
        f"connections, derived network {last.psnr_one_hot:.1f} dB, relaxed {last.psnr_relaxed:.1f} dB"
    )
