"""Model files in spandrel: found by their genotype, restored as the restorer does, in half precision, too."""

import pytest
import torch

from manas.architecture.genotype import Genotype
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import assemble
from search_spaces.frontier import Frontier

spandrel = pytest.importorskip("spandrel")


def saved(folder, randomised, design, *gates):
    space = Frontier(stages=1, width=8, gates=gates)
    tower = Genotype(space=space, choices=space.by_hand()[design])
    genotype = assemble({"restore": tower}, stitch="none", fusion="mean")
    network = randomised(genotype.network())
    return save_model(folder / "model.safetensors", network, ModelDescription(genotype=genotype))


def loaded(file):
    from manas.foreign.spandrel import install

    install()
    install()  # a second time adds nothing
    return spandrel.ModelLoader("cpu").load_from_file(file)


def test_it_restores_as_the_restorer_does(tmp_path, randomised):
    file = saved(tmp_path, randomised, "RCAN, local", "local_channel_attention")
    model, image = loaded(file), torch.rand(1, 3, 37, 50)
    expected = Restorer.load(file, device="cpu")(image)
    assert (model.architecture.id, model.scale, model.purpose) == ("manas", 1, "Restoration")
    assert model.size_requirements.multiple_of == 16
    assert model.tiling == spandrel.ModelTiling.SUPPORTED
    torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.half()(image.half()).float(), expected, atol=2e-2, rtol=0)


def test_tiles_of_a_network_that_pools_over_the_image_are_discouraged(tmp_path, randomised):
    model = loaded(saved(tmp_path, randomised, "RCAN", "channel_attention"))
    assert model.tiling == spandrel.ModelTiling.DISCOURAGED
