"""Configuration of `retrain`; the options of the optimiser, the losses and the data stand with those parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from manas.config import Configuration
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.device import DeviceName
from manas.restoration.cross_stitch import StitchOptions
from manas.restoration.losses import LossWeights
from manas.training.distributed import Precision
from manas.training.optimiser import OptimiserConfig
from manas.training.schedule import ScheduleConfig


class RetrainConfig(Configuration):
    """Configuration of `retrain`.

    The effect of each default is measured in ``experiments/results/recipe.md``, one row a default.

    Attributes:
        run: the run directory.
        seed: the seed of the initial weights, the partition of the backgrounds and all draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: the precision of the network's forward pass; losses are in float32 in any case.
        genotype: paths of genotypes or of the runs that found them, one a task; or one path, of a whole network
            or of a lone tower. A space without forks is named by its preset, such as ``cmudrn``, or by its YAML
            file.
        space: ``package.module:Class`` of a space that no entry point names, for reading the genotypes.
        stitch, stitches, fusion: options of the network that is made of one genotype a task
            (`manas.restoration.network.RestorationSpace`); the genotype of a whole network has its own.
        init: weights to begin with: a model file of the same network or its run directory; or one a task, whose
            tower is taken.
        stitch_rate: factor on the learning rate of the stitches. Misra et al. found 100 to 1000 best for SGD,
            whose steps grow with the gradient; Adam's do not, and 10 moves a stitch of 0.9 in proportion as
            much as a weight of 0.09.
        data: where the images come from.
        epochs, steps: epochs, and steps in each; an epoch ends with validation and checkpoint.
        validation_share: share of the training backgrounds that the weights do not see.
        loss: the loss of the fused output (global) and of each tower (local); by default L1 and a little of
            1 - SSIM, which trained best (``experiments/results/recipe.md``).
        optimiser, schedule: the optimiser of the weights (`weights` in a search) and the course of its learning
            rate.
        average: decay of the moving average of the weights; the averaged network is evaluated and saved.
        statistics: the normalisation statistics of the averaged network: ``estimated`` anew from training crops
            before it is evaluated, or ``running``, averaged as the weights are
            (`manas.training.estimated_statistics`).
        license: the licence that the weights will be given under, an identifier of SPDX, for the model's card.
        credit: whose training images these are, and under which terms, for the card.
        log_every: steps between two entries of the metrics; the device is waited for only then.
    """

    run: str = "runs/retrain"
    seed: int = Field(0, ge=0)
    device: DeviceName = "auto"
    precision: Precision = "float32"
    genotype: str | dict[str, str]
    space: str | None = None
    stitch: Literal["none", "layer", "channel"] = "layer"
    stitches: StitchOptions = StitchOptions()
    fusion: Literal["mean", "conv", "mask"] = "mask"
    init: str | dict[str, str] | None = None
    stitch_rate: float = Field(1.0, gt=0, allow_inf_nan=False)
    data: DataConfig = DataConfig(
        sources=(SourceConfig(task="derain", weather="rain"), SourceConfig(task="desnow", weather="snow")),
        versions=1,
        batch=16,
    )
    epochs: int = Field(20, ge=1)
    steps: int = Field(100, ge=1)
    validation_share: float = Field(0.2, gt=0, lt=1)
    loss: LossWeights = LossWeights(mse=0, l1=1, ssim=0.2, tv=0, internal=0)
    optimiser: OptimiserConfig = OptimiserConfig(
        name="adamw", rate=2e-3, betas=(0.9, 0.99), decay=1e-4, clip=1.0
    )
    schedule: ScheduleConfig = ScheduleConfig()
    average: float = Field(0.995, ge=0, lt=1)
    statistics: Literal["estimated", "running"] = "estimated"
    license: str | None = None
    credit: str | None = None
    log_every: int = Field(10, ge=1)
