"""Configuration of `search`; the options of the optimisers, the losses and the data stand with those parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from manas.architecture.finding import GivenSpace
from manas.config import Configuration
from manas.cost.budget import BudgetConfig, FrontConfig
from manas.cost.counting import InputShape
from manas.cost.table import Metric
from manas.data.dataset.config import DataConfig
from manas.device import DeviceName
from manas.errors import ManasError
from manas.relaxations.base import ScheduledWeight
from manas.relaxations.finding import GivenRelaxation
from manas.relaxations.smoothing import SmoothingConfig
from manas.relaxations.softmax import Softmax
from manas.restoration.losses import LossWeights
from manas.searching.conflicts import conflicts
from manas.searching.evolution import EvolutionConfig
from manas.searching.perturbation import PerturbationConfig
from manas.searching.verdict import StopConfig
from manas.training.distributed import Precision
from manas.training.optimiser import OptimiserConfig
from manas.training.schedule import ScheduleConfig


class ComplexityConfig(BaseModel):
    """The complexity loss: `weight` times the expected cost, as a share of that of the dearest architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(0.01, ge=0)
    metric: Metric = "macs"


class ArgmaxConfig(BaseModel):
    """Selection of the most probable candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["argmax"] = "argmax"


class GradientConfig(BaseModel):
    """The search by gradient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["gradient"] = "gradient"


class RandomConfig(BaseModel):
    """Random search: architectures are drawn, each is trained for a while, and the best by validation wins.

    All trainings and scores together cost as many multiply-accumulates as the steps and validations of a
    first-order search by gradient with the same configuration (`manas.searching.compute`); each candidate gets
    an equal share, so a smaller network has more steps.

    Attributes:
        candidates: number of architectures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random"] = "random"
    candidates: int = Field(8, ge=1)


class SurrogateConfig(BaseModel):
    """The search by a surrogate: each epoch is a training of one architecture alone.

    Unless given, `epochs` is 24 and `steps` 150: so many trainings, of so many steps. `alpha_share` is 0.25:
    these backgrounds do no more than score.

    Attributes:
        by_hand: whether the search begins with the architectures that its space has by hand, if it has any
            (`SearchSpace.by_hand`), as far as the budget goes; their trainings are long, and one may be chosen.
        drawn: share of the architectures that are drawn at random, before the model chooses.
        finals: share of the trainings, the last ones, that are long; the result is one of them. What learns
            fast is not what ends best.
        longer: how many times as long as a short training a long one is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["surrogate"] = "surrogate"
    by_hand: bool = True
    drawn: float = Field(0.125, gt=0, le=1)
    finals: float = Field(0.25, ge=0, lt=1)
    longer: float = Field(3.0, ge=1)


class CorrelationConfig(BaseModel):
    """A check of a supernet at the end of a search: whether its one-hot scores rank architectures as they are.

    Attributes:
        architectures: number of random architectures.
        steps: steps of the training of each alone; ranks of shorter ones are noise.
        seeds: number of trainings of each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architectures: int = Field(12, ge=4)
    steps: int = Field(300, ge=1)
    seeds: int = Field(2, ge=2)


# What a search by each method has unless it is given. A supernet of `frontier` costs as much as 29 networks.
OF_A_SURROGATE = {"epochs": 24, "steps": 150, "alpha_share": 0.25}
OF_OTHERS = {"space": "manas_tiny"}


def _kind(value: Any) -> Any:
    """Takes a name alone for the part of that name with its defaults, as in ``method: evolution``."""
    return {"kind": value} if isinstance(value, str) else value


def _architectures(value: Any) -> Any:
    """Takes a number alone for the number of architectures."""
    return {"architectures": value} if isinstance(value, int) and not isinstance(value, bool) else value


ByKind = (BeforeValidator(_kind), Field(discriminator="kind"))
AnyMethod = Annotated[GradientConfig | SurrogateConfig | RandomConfig | EvolutionConfig, *ByKind]
AnySelection = Annotated[ArgmaxConfig | PerturbationConfig, *ByKind]
AnyCorrelation = Annotated[CorrelationConfig, BeforeValidator(_architectures)]
AnySmoothing = Annotated[SmoothingConfig, BeforeValidator(_kind)]


class SearchConfig(Configuration):
    """Configuration of `search`.

    Attributes:
        run: the run directory.
        seed: the seed of the initial weights, the partition of the backgrounds and all draws.
        repeats: number of searches, each from other weights, whose agreement is the result; one search cannot
            tell merit from luck.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: the precision of the network's forward pass; losses are in float32 in any case.
        space: a preset, YAML path, ``package.module:Class``, or a mapping with its `kind`; ``frontier`` unless
            given, and ``manas_tiny`` for another method than a surrogate.
        method: ``surrogate``, the default, since it alone has been better than chance here
            (``experiments/results/search.md``); ``gradient``; or a baseline to compare with: ``random`` or
            ``evolution``.
        relaxation: the way in which alphas become weights: ``softmax``, ``gumbel``, ``dirichlet``, ``sigmoid``,
            another that a package enters in ``manas.relaxations``, or ``package.module:Class``.
        order: gradient of the alphas: ``first``; ``second``, which looks one step of the weights ahead; or
            ``single``, which takes one backward pass for weights and alphas on the same batch.
        selection: ``argmax``, or ``perturbation``.
        data: where the images come from.
        epochs, steps: epochs, and steps in each; an epoch ends with validation, genotype and checkpoint.
        warmup: share of the steps before the alphas start to move.
        alpha_share: share of the training backgrounds that the alphas and validation see, and the weights do
            not; a half, by a surrogate a quarter, unless given.
        alpha_statistics: normalisation in the alpha step and in validation: by ``batch`` statistics, as in the
            weight step, or by ``running`` statistics, as in the released code. Batch statistics belong to the
            network that is being trained; running ones are averages over earlier weights, which early in a
            search mislead the alphas. Evolution judges its paths by batch statistics, since running ones would
            mix all paths; random search estimates those of each network anew, as a retraining does.
        accumulate: parts into which the batch of a process is split, to save memory.
        checkpointing: whether choices keep only their inputs for the backward pass, and compute the rest again.
        loss: the loss of the restoration in both steps: the terms by which a retraining learns best
            (``experiments/results/recipe.md``), and the internal loss between the versions of a background.
        architecture: weight of the binary entropy of the probabilities, in the alpha step. The released code
            takes log10; the same weight is 0.43 times as large here.
        architecture_from: share of the search before that loss counts. It takes alphas to a decision that the
            data have not made, so they should speak first.
        complexity: the price of MACs, parameters or latency, in the alpha step.
        budget: the largest cost of the derived network; takes the place of `complexity`.
        front: budgets; for each, a search by a surrogate finds an architecture from the same trainings.
        beta_decay: weight of the mean logsumexp of the alphas of a choice (Beta-DARTS; Ye et al., CVPR 2022,
            which goes from 0 to 50).
        smoothing: perturbation of the candidates' weights in the weight step (SmoothDARTS), or None.
        weights, alphas: the two optimisers; that of the weights is called `optimiser` in a retraining.
        schedule: the course of the learning rate of the weights.
        eigenvalue_every: epochs between two measurements of the dominant eigenvalue; 0 measures none.
        stop: rules for ending early.
        correlation: number of architectures whose one-hot scores are compared with trainings alone, or None;
            see `CorrelationConfig`.
        log_every: steps between two entries of the metrics; the device is waited for only then.
    """

    model_config = ConfigDict(validate_default=True)

    run: str = "runs/search"
    seed: int = Field(0, ge=0)
    repeats: int = Field(1, ge=1)
    device: DeviceName = "auto"
    precision: Precision = "float32"
    space: GivenSpace = "frontier"  # type: ignore[assignment] # validated as what it names
    method: AnyMethod = SurrogateConfig(kind="surrogate")
    relaxation: GivenRelaxation = Softmax()
    order: Literal["first", "second", "single"] = "first"
    selection: AnySelection = ArgmaxConfig(kind="argmax")
    data: DataConfig = DataConfig()
    epochs: int = Field(10, ge=1)
    steps: int = Field(40, ge=1)
    warmup: float = Field(0.25, ge=0, lt=1)
    alpha_share: float = Field(0.5, gt=0, lt=1)
    alpha_statistics: Literal["batch", "running"] = "batch"
    accumulate: int = Field(1, ge=1)
    checkpointing: bool = False
    loss: LossWeights = LossWeights(mse=0, l1=1, ssim=0.2, tv=0)
    architecture: float = Field(0.01, ge=0)
    architecture_from: float = Field(0.5, ge=0, lt=1)
    complexity: ComplexityConfig = ComplexityConfig()
    budget: BudgetConfig | None = None
    front: FrontConfig | None = None
    beta_decay: ScheduledWeight = 0.0
    smoothing: AnySmoothing | None = None
    weights: OptimiserConfig = OptimiserConfig(name="adamw", rate=2e-3, betas=(0.9, 0.99), decay=1e-4, clip=1.0)
    schedule: ScheduleConfig = ScheduleConfig(floor=0.05)
    alphas: OptimiserConfig = OptimiserConfig(name="adam", rate=1e-2, betas=(0.5, 0.999))
    eigenvalue_every: int = Field(1, ge=0)
    stop: StopConfig = StopConfig()
    correlation: AnyCorrelation | None = None
    log_every: int = Field(10, ge=1)

    @property
    def metric(self) -> Metric:
        """The metric of the search's cost table."""
        return self.budgets[0].metric if self.budgets else self.complexity.metric

    @property
    def budgets(self) -> tuple[BudgetConfig, ...]:
        """The budgets of the search: those of a front, or one, or none."""
        if self.front:
            return self.front.budgets
        return (self.budget,) if self.budget else ()

    @property
    def input(self) -> InputShape:
        """(3, height, width), the shape of the image for which costs are counted."""
        size = self.budgets[0].size if self.budgets else None
        return (3, *(size or (self.data.patch, self.data.patch)))

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole search."""
        return self.epochs * self.steps

    @property
    def first_alpha_step(self) -> int:
        """The step in which the alphas move first."""
        return round(self.warmup * self.total_steps)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        method = values.get("method", "surrogate")
        kind = method.get("kind", "surrogate") if isinstance(method, dict) else getattr(method, "kind", method)
        return (OF_A_SURROGATE if kind == "surrogate" else OF_OTHERS) | values

    @model_validator(mode="after")
    def _everything_has_effect(self) -> SearchConfig:
        for ineffective, message in conflicts(self):
            if ineffective:
                raise ManasError(message)
        return self
