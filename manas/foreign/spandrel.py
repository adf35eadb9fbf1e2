"""Model files in spandrel, by which ComfyUI, chaiNNer and others load networks; `install` is all it takes.

spandrel hands a loader the tensors of a file and nothing else; the genotype among them is enough
(`manas.restoration.model_file.network_of`).
"""

from __future__ import annotations

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)

from manas.inference.traits import OneOutput, Traits
from manas.restoration.model_file import GENOTYPE, network_of
from manas.restoration.network import size_multiple_of, tasks_of


class Manas(Architecture[OneOutput]):
    """Every network that `manas.retrain` trains, with its blind output."""

    def __init__(self) -> None:
        super().__init__(id="manas", detect=lambda state: GENOTYPE in state)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[OneOutput]:
        """The descriptor of the tensors of a model file.

        Raises:
            ManasError: if they do not fit the genotype among them.
        """
        network, genotype = network_of(state_dict)
        model, multiple = OneOutput(network, None).eval(), size_multiple_of(network)
        pools = Traits(model, multiple).depth > 0
        return ImageModelDescriptor(
            model,
            model.state_dict(),
            architecture=self,
            purpose="Restoration",
            tags=list(tasks_of(genotype.space)),
            supports_half=True,
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(multiple_of=multiple),
            call_fn=lambda model, image: model(image).to(image.dtype),
            tiling=ModelTiling.DISCOURAGED if pools else ModelTiling.SUPPORTED,
        )


def install() -> None:
    """Enters the networks of this package in spandrel's registry, once."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(Manas()), ignore_duplicates=True)
