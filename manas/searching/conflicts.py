"""Conflicts in the settings of a search: a setting that would have no effect beside another is an error."""

from __future__ import annotations

from typing import Any

from manas.cost.budget import BudgetConfig
from manas.searching.health import SKIP
from manas.searching.verdict import StopConfig

Settings = Any  # a SearchConfig; its file imports this one, since it asks for its conflicts when it is made
Conflict = tuple[bool, str]  # whether the conflict is there, and the message that says what to do

# The settings that a baseline does not use.
OF_THE_GRADIENT = (
    *("relaxation", "order", "selection", "warmup", "alpha_statistics", "architecture"),
    *("architecture_from", "complexity"),
    *("beta_decay", "smoothing", "alphas", "eigenvalue_every", "stop", "correlation"),
)


def conflicts(config: Settings) -> list[Conflict]:
    """Every possible conflict, with whether it is there."""
    return [*_of_the_method(config), *_of_the_order(config), *_of_the_terms(config), *_of_stopping(config)]


def _of_the_method(config: Settings) -> list[Conflict]:
    method = config.method.kind
    baseline, default = method != "gradient", BudgetConfig.model_fields["rate"].default
    # Random search gets as much compute as the search by gradient, warm-up included.
    allowed = {"warmup"} if method == "random" else set()
    allowed |= {"eigenvalue_every"} if not config.eigenvalue_every else set()  # 0 asks for nothing
    changed = [name for name in OF_THE_GRADIENT if name not in allowed and _is_set(config, name)]
    return [
        (
            baseline and bool(changed),
            f"method={method} has no alphas, so {', '.join(changed)} would have no effect; leave it out, or "
            "set method=gradient",
        ),
        (
            baseline and config.budget is not None and config.budget.rate != default,
            f"method={method} has no alphas to press on, so budget.rate would have no effect; leave it out, "
            "or set method=gradient",
        ),
        (
            config.repeats > 1 and (baseline or config.selection.kind != "argmax"),
            "repeats puts together the alphas of several searches; it needs method=gradient, selection=argmax",
        ),
        (
            config.front is not None and method != "surrogate",
            "a front takes the trainings of a surrogate; set method=surrogate, or give one budget",
        ),
        (
            config.front is not None and config.budget is not None,
            "a front takes the place of a budget; leave one of them out",
        ),
        (
            method == "evolution" and config.accumulate > 1,
            "method=evolution has a path for each part of the batch; set method.paths and leave accumulate out",
        ),
        (
            method in ("random", "surrogate") and (config.accumulate > 1 or config.checkpointing),
            f"method={method} trains derived networks, whole; leave accumulate and checkpointing out, or "
            "set method=gradient",
        ),
    ]


def _of_the_order(config: Settings) -> list[Conflict]:
    second, single = config.order == "second", config.order == "single"
    return [
        (
            second and config.weights.clip is not None,
            "order=second differentiates the step of the weights, which clipping cuts; set weights.clip=null",
        ),
        (
            second and config.accumulate > 1,
            "order=second keeps the graph of the whole batch, so accumulate saves nothing; set it to 1",
        ),
        (
            single and config.alpha_statistics == "running",
            "order=single has one pass for weights and alphas; alpha_statistics=running cannot be had",
        ),
        (
            single and config.smoothing is not None,
            "order=single has one pass, so nothing can be perturbed for the weights alone; leave smoothing out",
        ),
    ]


def _of_the_terms(config: Settings) -> list[Conflict]:
    relaxation, kind = config.relaxation, config.relaxation.kind
    return [
        (
            config.smoothing is not None and not relaxation.is_noiseless,
            f"smoothing perturbs the weights of a softmax, not of {kind}; leave one of them out",
        ),
        (
            config.beta_decay != 0 and not relaxation.is_softmax,
            f"beta_decay is a bound on softmax weights, not on {kind}; leave one of them out",
        ),
        (
            config.budget is not None and _is_set(config, "complexity"),
            "a budget takes the place of complexity; leave one of them out",
        ),
    ]


def _of_stopping(config: Settings) -> list[Conflict]:
    stop = config.stop
    return [
        (
            stop.eigenvalue_growth is not None and not config.eigenvalue_every,
            "stop.eigenvalue_growth needs the eigenvalue; set eigenvalue_every=1",
        ),
        (
            stop.skip_share is not None and not _offers_skips(config),
            f"stop.skip_share has no effect in a space that offers no {SKIP}; leave it out",
        ),
        (
            stop != StopConfig() and config.selection.kind != "argmax",
            "stop returns the genotype of an earlier epoch, but perturbation selects with the last supernet; "
            "leave one of them out",
        ),
    ]


def _offers_skips(config: Settings) -> bool:
    return any(SKIP in names for names in config.space.choices().values())


def _is_set(config: Settings, name: str) -> bool:
    """Whether a field differs from its default."""
    return getattr(config, name) != type(config).model_fields[name].default
