"""Configuration of `retrain`; a knob of one part stands with that part."""

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

    What the defaults are worth is measured, a row each, in ``experiments/results/recipe.md``.

    Attributes:
        run: the run directory.
        seed: of the initial weights, the partition of the backgrounds and all draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: of the network's forward pass; losses are in float32 in any case.
        genotype: path of one genotype a task, by task; or one path, of a whole network or for a lone tower. A
            space without forks needs none: its preset or YAML file does, such as ``cmudrn``.
        space: ``package.module:Class`` of a space that no entry point names, for reading the genotypes.
        stitch, stitches, fusion: of the network that is made of one genotype a task
            (`manas.restoration.network.RestorationSpace`); a whole genotype has its own.
        init: weights to begin with: a model file of the same network; or one a task, whose tower is taken.
        stitch_rate: factor on the learning rate of the stitches. Misra et al. found 100 to 1000 best for SGD,
            whose steps grow with the gradient; Adam's do not, and 10 moves a stitch of 0.9 in proportion as
            much as a weight of 0.09.
        data: where the images come from.
        epochs, steps: epochs, and steps in each; an epoch ends with validation and checkpoint.
        validation_share: share of the training backgrounds that the weights do not see.
        loss: global, of the fused output, and local, of each tower; by default L1 and a little of 1 - SSIM,
            which trained best (``experiments/results/recipe.md``).
        optimiser, schedule: of the weights.
        average: decay of the moving average of the weights, which is what is evaluated and saved.
        statistics: of the normalisation of that average: ``estimated`` anew from training crops before it is
            evaluated, or ``running``, averaged as the weights are (`manas.training.estimated_statistics`).
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
    log_every: int = Field(10, ge=1)
