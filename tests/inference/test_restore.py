"""The Restorer: every kind of picture of any size, and the same kind comes back."""

import numpy as np
import pytest
import torch
from PIL import Image
from training.tiny_runs import tower

from manas.errors import ManasError
from manas.inference.restore import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace

SIZES = [(1, 1), (3, 5), (2, 1), (16, 16), (17, 23)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file of two towers whose outputs differ, without global pooling."""
    torch.manual_seed(0)
    towers = {task: tower(attention=None, residual=False) for task in ("derain", "desnow")}
    genotype = RestorationSpace(towers=towers, fusion="conv").sample(seed=1)
    network = genotype.network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_model(path, network, ModelDescription(genotype=genotype))


@pytest.fixture(scope="module")
def restorer(model):
    return Restorer.load(model, device="cpu")


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
class TestKinds:
    """All kinds of the same picture are restored to the same values."""

    def expected(self, restorer, array):
        batch = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
        return restorer(batch)[0].permute(1, 2, 0).numpy()

    def test_array_of_bytes(self, size, restorer):
        array = pixels(*size)
        restored = restorer(array)
        assert (restored.shape, restored.dtype) == (array.shape, np.uint8)
        assert np.abs(restored / 255 - self.expected(restorer, array)).max() <= 0.5 / 255 + 1e-6
        np.testing.assert_array_equal(array, pixels(*size))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_array_of_floats(self, dtype, size, restorer):
        array = (pixels(*size) / 255).astype(dtype)
        restored = restorer(array)
        assert (restored.shape, restored.dtype) == (array.shape, dtype)
        np.testing.assert_allclose(restored, self.expected(restorer, pixels(*size)), atol=5e-3)

    def test_pil_image(self, size, restorer):
        image = Image.fromarray(pixels(*size))
        restored = restorer(image)
        assert isinstance(restored, Image.Image)
        assert (restored.size, restored.mode) == (image.size, "RGB")
        np.testing.assert_array_equal(np.asarray(restored), restorer(pixels(*size)))

    def test_tensors(self, size, restorer):
        batch = torch.rand(2, 3, *size)
        restored = restorer(batch)
        assert (restored.shape, restored.dtype) == (batch.shape, torch.float32)
        assert 0 <= restored.min() <= restored.max() <= 1
        assert not restored.requires_grad
        torch.testing.assert_close(restorer(batch[1]), restored[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_other_floats(dtype, restorer):
    image = torch.rand(3, 5, 7).to(dtype)
    restored = restorer(image)
    assert (restored.shape, restored.dtype) == (image.shape, dtype)
    torch.testing.assert_close(restored.float(), restorer(image.float()), atol=5e-3, rtol=0)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pil_images_of_other_modes_come_back_in_rgb(mode, restorer):
    image = Image.fromarray(pixels(6, 5)).convert(mode)
    restored = restorer(image)
    assert (restored.mode, restored.size) == ("RGB", (5, 6))
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(restorer(image.convert("RGB"))))


def test_arrays_of_any_layout(restorer):
    array = pixels(8, 10)
    for same in (np.asfortranarray(array), array[::-1][::-1], np.repeat(array, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(restorer(same), restorer(array))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_that_cannot_be_written(dtype, restorer):
    image = pixels(4, 6).astype(dtype) / (255 if dtype is np.float32 else 1)
    image = image.astype(dtype)
    image.setflags(write=False)
    assert restorer(image).shape == image.shape


def test_no_picture_is_changed(restorer):
    batch = torch.rand(1, 3, 5, 7)
    before = batch.clone()
    restorer(batch)
    assert torch.equal(batch, before)


class TestTask:
    def test_it_takes_the_output_of_that_tower(self, model):
        batch = torch.rand(1, 3, 8, 8)
        outputs = {
            task: Restorer.load(model, device="cpu", task=task)(batch) for task in (None, "derain", "desnow")
        }
        network = Restorer.load(model, device="cpu").network
        with torch.no_grad():
            restoration = network(batch)
        for task, output in outputs.items():
            expected = restoration.fused if task is None else restoration.tasks[task]
            torch.testing.assert_close(output, expected.clamp(0, 1))
        assert not torch.allclose(outputs["derain"], outputs["desnow"])

    def test_an_unknown_one_is_named(self, model):
        with pytest.raises(ManasError, match="no tower for 'dersin'; did you mean 'derain'"):
            Restorer.load(model, device="cpu", task="dersin")


def test_tiles_equal_the_whole(model, restorer):
    for size in ((50, 41), (16, 70)):
        array = pixels(*size).astype(np.float32) / 255
        tiled = Restorer.load(model, device="cpu", tile=16, halo=32)(array)
        np.testing.assert_allclose(tiled, restorer(array), atol=1e-5)
        assert np.abs(Restorer.load(model, device="cpu", tile=16, halo=0)(array) - tiled).max() > 1e-3


class TestRefused:
    @pytest.mark.parametrize(
        "picture",
        [
            "picture.png",
            None,
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((1, 3, 4, 4), np.float32),
            np.zeros((4, 4, 3), np.int32),
            np.zeros((4, 4, 3), np.uint16),
            np.zeros((4, 4, 3), bool),
            torch.zeros(4, 4),
            torch.zeros(3, 4, 4, dtype=torch.uint8),
            torch.zeros(1, 4, 4),
            torch.zeros(2, 4, 4, 4),
            torch.zeros(3, 0, 4),
        ],
        ids=lambda p: f"{type(p).__name__}-{getattr(p, 'dtype', '')}-{tuple(getattr(p, 'shape', ()))}",
    )
    def test_what_is_no_picture(self, picture, restorer):
        with pytest.raises(ManasError):
            restorer(picture)

    def test_nan_as_bytes(self, model):
        broken = Restorer.load(model, device="cpu")
        for parameter in broken.network.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        with pytest.raises(ManasError, match="NaN"):
            broken(pixels(4, 4))

    @pytest.mark.parametrize("options", [{"tile": 0}, {"tile": -8}, {"tile": 8, "halo": -1}], ids=str)
    def test_tiles_of_no_size(self, options, model):
        with pytest.raises(ManasError, match="must be at least"):
            Restorer.load(model, device="cpu", **options)(pixels(4, 4))

    def test_a_device_that_is_not_here(self, model):
        with pytest.raises(ManasError, match="device=tpu"):
            Restorer.load(model, device="tpu")


def test_the_description_is_at_hand(restorer):
    assert list(restorer.description.genotype.space.towers) == ["derain", "desnow"]
    assert not restorer.network.training
