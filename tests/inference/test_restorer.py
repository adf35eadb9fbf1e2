"""The Restorer: every kind of picture of any size, and the same kind comes back."""

import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from inference.tiny_networks import restoration, uneven
from PIL import Image
from torch import nn
from training.tiny_runs import environment, tower

from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.inference import restorer as restore
from manas.inference import sharing
from manas.inference.ensemble import ALL_TURNS
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace

SIZES = [(1, 1), (3, 5), (2, 1), (16, 16), (17, 23)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file of two towers whose outputs differ, without global pooling."""
    torch.manual_seed(0)
    towers = {task: tower(attention=None, residual=False) for task in ("derain", "desnow")}
    genotype = Genotype.sample(RestorationSpace(towers=towers, fusion="conv"), seed=1)
    network = genotype.network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_model(path, network, ModelDescription(genotype=genotype))


@pytest.fixture(scope="module")
def restorer(model):
    return Restorer.load(model, device="cpu")


@pytest.fixture(scope="module")
def pooling(randomised, tmp_path_factory):
    """A model file of two towers with channel attention; most of what it gives lies between 0 and 1."""
    torch.manual_seed(0)
    attention = {"groups": 1, "gates": ["cbam", "channel_attention"]}
    towers = {task: tower(attention=attention, residual=True) for task in ("derain", "desnow")}
    genotype = Genotype.sample(RestorationSpace(towers=towers, fusion="mean"), seed=0)
    network = randomised(genotype.network()).eval()
    with torch.no_grad():
        for each in network.towers.values():
            picture = uneven(1, 3, 64, 64)
            each.output.weight *= 0.3 / (each(picture) - picture).abs().max()
    path = tmp_path_factory.mktemp("pooling") / "model.safetensors"
    return save_model(path, network, ModelDescription(genotype=genotype))


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def floats(height, width):
    return uneven(1, 3, height, width)[0].permute(1, 2, 0).numpy()


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

    def test_array_of_sixteen_bits(self, size, restorer):
        array = pixels(*size).astype(np.uint16) * 257
        restored = restorer(array)
        assert (restored.shape, restored.dtype) == (array.shape, np.uint16)
        assert np.abs(restored / 65535 - self.expected(restorer, pixels(*size))).max() <= 0.5 / 65535 + 1e-6

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


class TestLayouts:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
    @pytest.mark.parametrize(
        "view",
        [
            np.asfortranarray,
            lambda array: array[::-1].copy()[::-1],
            lambda array: array[:, ::-1].copy()[:, ::-1],
            lambda array: array[..., ::-1].copy()[..., ::-1],
            lambda array: np.repeat(array, 2, 1)[:, ::2],
        ],
        ids=["fortran", "upside down", "mirrored", "bgr", "every other"],
    )
    def test_arrays_of_any_layout(self, view, dtype, restorer):
        array = (
            (pixels(8, 10) / 255).astype(dtype) if np.dtype(dtype).kind == "f" else pixels(8, 10).astype(dtype)
        )
        np.testing.assert_array_equal(restorer(view(array)), restorer(array))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
    def test_arrays_that_cannot_be_written(self, dtype, restorer):
        array = (pixels(4, 6) / (255 if np.dtype(dtype).kind == "f" else 1)).astype(dtype)
        array.setflags(write=False)
        restored = restorer(array)
        assert restored.shape == array.shape
        assert restored.flags.writeable

    def test_arrays_that_repeat_a_row(self, restorer):
        array = np.broadcast_to(pixels(1, 6), (5, 6, 3))
        np.testing.assert_array_equal(restorer(array), restorer(array.copy()))

    def test_arrays_of_the_other_byte_order(self, restorer):
        array = floats(4, 6)
        swapped = array.astype(array.dtype.newbyteorder())
        assert restorer(swapped).dtype == swapped.dtype
        np.testing.assert_array_equal(restorer(swapped), restorer(array))

    def test_sixteen_bits_of_the_other_byte_order(self, restorer):
        array = pixels(4, 6).astype(np.uint16) * 257
        np.testing.assert_array_equal(restorer(array.astype(array.dtype.newbyteorder())), restorer(array))

    def test_tensors_of_any_layout(self, restorer):
        batch = torch.rand(2, 3, 6, 9)
        for same in (batch.to(memory_format=torch.channels_last), batch.mT.contiguous().mT):
            torch.testing.assert_close(restorer(same), restorer(batch), rtol=0, atol=1e-6)
        assert torch.equal(restorer(batch[:1].expand(2, -1, -1, -1))[1], restorer(batch)[0])

    def test_tensors_with_a_graph(self, restorer):
        assert not restorer(torch.rand(3, 5, 5, requires_grad=True)).requires_grad

    def test_what_comes_back_may_be_written_to(self, restorer):
        restorer(torch.rand(3, 5, 5)).mul_(255)


@pytest.mark.parametrize("options", [{}, {"tile": 8}, {"strength": 0.5}, {"ensemble": True}], ids=str)
def test_no_picture_is_changed(options, model):
    restorer = Restorer.load(model, device="cpu", **options)
    batch, array = torch.rand(1, 3, 16, 16), floats(16, 16)
    image = Image.fromarray(pixels(16, 16))
    before = batch.clone(), array.copy(), image.copy()
    for picture in (batch, array, image):
        restorer(picture)
    assert torch.equal(batch, before[0])
    np.testing.assert_array_equal(array, before[1])
    np.testing.assert_array_equal(np.asarray(image), np.asarray(before[2]))


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


def tiles_in(restorer, picture):
    """How many tiles a picture is restored in; those of every pass where statistics are exact."""
    seen = []
    restorer(picture, lambda done, total: seen.append((done, total)))
    assert seen == [(n, len(seen)) for n in range(1, len(seen) + 1)]
    return len(seen)


class TestTiles:
    @pytest.mark.parametrize("size", [(50, 41), (16, 70), (1, 1)], ids=str)
    @pytest.mark.parametrize("statistics", ["sampled", "exact"])
    @pytest.mark.parametrize("task", [None, "desnow"])
    def test_they_equal_the_whole(self, pooling, size, statistics, task):
        array = floats(*size)
        whole = Restorer.load(pooling, device="cpu", task=task, tile=None)(array)
        tiled = Restorer.load(pooling, device="cpu", task=task, tile=16, statistics=statistics)
        assert (tiles_in(tiled, array) > 1) == (max(size) > 16)
        np.testing.assert_allclose(tiled(array), whole, rtol=0, atol=1e-5)

    def test_each_of_a_batch(self, pooling):
        batch = torch.stack([uneven(3, 24, 30) * light for light in (1, 0.3)])
        restorer = Restorer.load(pooling, device="cpu", tile=16)
        assert tiles_in(restorer, batch) == 2 * 4
        for image, restored in zip(batch, restorer(batch), strict=True):
            torch.testing.assert_close(restored, restorer(image), rtol=0, atol=1e-6)

    def test_without_them_what_the_network_gives_is_not_cut_off(self, pooling):
        """Otherwise equal results would say little."""
        picture = floats(50, 41)
        restored = Restorer.load(pooling, device="cpu", tile=None)(picture)
        assert ((restored > 0) & (restored < 1)).mean() > 0.6
        assert (restored - picture).std() > 0.05


class TestAutomaticTiles:
    def test_small_pictures_are_whole(self, pooling):
        assert tiles_in(Restorer.load(pooling, device="cpu"), floats(200, 200)) == 1

    def test_where_memory_is_small_they_are_not(self, pooling, monkeypatch):
        whole = Restorer.load(pooling, device="cpu")(floats(90, 90))
        restorer = Restorer.load(pooling, device="cpu", statistics="exact")
        monkeypatch.setattr(sharing, "memory_for", lambda device: 700_000)
        assert tiles_in(restorer, floats(90, 90)) > 4
        torch.manual_seed(0)
        picture = floats(90, 90)
        np.testing.assert_allclose(restorer(picture), Restorer.load(pooling, tile=None)(picture), atol=1e-5)
        assert tiles_in(restorer, picture[:20, :20]) == 1
        assert whole.shape == picture.shape

    @pytest.mark.parametrize("memory", [10**5, 10**6, 10**7])
    def test_no_tile_needs_more_than_there_is(self, pooling, monkeypatch, memory):
        restorer = Restorer.load(pooling, device="cpu", statistics="exact")
        monkeypatch.setattr(sharing, "memory_for", lambda device: memory)
        largest = largest_input(restorer, floats(160, 160))
        smallest = (restore.SMALLEST_TILE + 2 * 16) ** 2
        assert largest <= max(1.1 * memory / restorer._traits.bytes_a_pixel, smallest)

    def test_a_network_that_pools_by_itself_is_whole_where_it_can_be(self, model):
        restorer = Restorer.load(model, device="cpu")
        restorer.network.register_forward_hook(
            lambda network, given, output: output._replace(fused=output.fused * output.fused.mean())
        )
        assert tiles_in(restorer, floats(20, 20)) == 1

    def test_with_no_memory_at_all_tiles_are_small(self, pooling, monkeypatch):
        restorer = Restorer.load(pooling, device="cpu")
        monkeypatch.setattr(sharing, "memory_for", lambda device: 1)
        assert tiles_in(restorer, floats(64, 70)) == 2 * 3

    def test_a_batch_of_small_images_does_not_need_more(self, pooling, monkeypatch):
        restorer = Restorer.load(pooling, device="cpu", statistics="exact")
        monkeypatch.setattr(sharing, "memory_for", lambda device: 10**6)
        assert largest_input(restorer, torch.rand(30, 3, 40, 40)) <= 10**6 / restorer._traits.bytes_a_pixel

    def test_nor_does_the_sample(self, pooling, monkeypatch):
        restorer = Restorer.load(pooling, device="cpu", statistics="sampled")
        monkeypatch.setattr(sharing, "memory_for", lambda device: 10**7)
        assert largest_input(restorer, floats(600, 600)) <= 1.1 * 10**7 / restorer._traits.bytes_a_pixel


def largest_input(restorer, picture):
    """The pixels of the largest batch that the network is given."""
    traits = restorer._traits
    assert all((traits.radius, traits.depth, traits.bytes_a_pixel))  # found before, with images of their own
    sizes = []
    handle = restorer.network.register_forward_pre_hook(
        lambda network, given: sizes.append(given[0].numel() // 3)
    )
    restorer(picture)
    handle.remove()
    return max(sizes)


# The receptive radius is then found in half precision, where this network is NaN everywhere.
class TestPrecision:
    def test_on_the_cpu_it_is_single_unless_asked_for(self, restorer):
        assert restorer.precision == "float32"

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    @pytest.mark.parametrize("tile", [None, 16])
    def test_half_is_close(self, pooling, precision, tile):
        picture = floats(40, 40)
        exact = Restorer.load(pooling, device="cpu", tile=None)(picture)
        half = Restorer.load(pooling, device="cpu", precision=precision, tile=tile)
        restored = half(picture)
        assert half.precision == precision
        assert restored.dtype == np.float32
        difference = np.abs(restored - exact)
        assert 1e-6 < difference.max() < 0.03

    @pytest.mark.parametrize(
        "options", [{"tile": None}, {}, {"tile": 16}, {"tile": 16, "statistics": "sampled"}], ids=str
    )
    def test_where_it_overflows_it_falls_back_with_one_warning(self, pooling, options):
        picture = floats(40, 40)
        exact = overflowing(pooling, **options)(picture)
        half = overflowing(pooling, precision="fp16", **options)
        with pytest.warns(UserWarning, match="in fp16 is not finite; going on in float32") as caught:
            restored = half(picture)
        assert len(caught) == 1
        np.testing.assert_array_equal(restored, exact)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(half(picture), exact)
        assert half.precision == "float32"

    def test_threads_that_fall_back_together(self, pooling):
        half, together = Restorer.load(pooling, device="cpu", precision="bf16"), threading.Barrier(2)
        picture = floats(16, 16)

        def overflow(network, given, output):
            if not torch.is_autocast_enabled("cpu"):
                return output
            together.wait(30)
            return output._replace(fused=output.fused * torch.inf)

        half.network.register_forward_hook(overflow)
        with ThreadPoolExecutor(2) as threads, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = threads.map(half, [picture] * 2)
        np.testing.assert_array_equal(first, Restorer.load(pooling, device="cpu")(picture))
        np.testing.assert_array_equal(second, first)

    def test_the_warning_names_the_line_of_the_call(self, pooling):
        half = overflowing(pooling, precision="fp16", tile=None)
        with pytest.warns(UserWarning, match="going on in float32") as caught:
            half(floats(8, 8))
        assert caught[0].filename == __file__

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("kind", [floats, pixels])
    def test_in_single_precision_it_is_an_error(self, pooling, value, kind):
        for tile in (None, "auto"):
            with pytest.raises(ManasError, match=r"not finite.*weights"):
                broken(pooling, value, tile=tile)(kind(20, 20))

    def test_in_half_precision_it_is_one_too(self, pooling):
        restorer = broken(pooling, np.nan, precision="bf16", tile=None)
        with pytest.warns(UserWarning, match="going on"), pytest.raises(ManasError, match="not finite"):
            restorer(floats(8, 8))

    def test_in_tiles_it_is_one_too(self, pooling):
        with pytest.raises(ManasError, match=r"NaN|not finite"):
            broken(pooling, np.nan, tile=16)(floats(20, 20))

    def test_a_part_of_a_picture_that_is_not_finite_is_one(self, pooling):
        for tile in (None, 16):
            picture = floats(40, 40)
            picture[39, 39, 2] = np.nan
            with pytest.raises(ManasError, match="not finite"):
                Restorer.load(pooling, device="cpu", tile=tile)(picture)


def broken(path, value, **options):
    """A restorer with weights that training left broken."""
    restorer = Restorer.load(path, device="cpu", **options)
    restorer.network.towers["derain"].output.weight.data.fill_(value)
    return restorer


def overflowing(path, **options):
    """A restorer whose last features are too large for fp16; what it gives is as before."""
    restorer = Restorer.load(path, device="cpu", **{"statistics": "exact"} | options)
    for each in restorer.network.towers.values():
        each.fusion.up[0][0].weight.data *= 1e6
        each.fusion.up[0][0].bias.data *= 1e6
        each.output.weight.data /= 1e6
    return restorer


class TestOutOfMemory:
    """A network that has only memory for images up to a size."""

    def limited(self, path, limit, error=torch.OutOfMemoryError, **options):
        restorer = Restorer.load(path, device="cpu", **options)
        self.refused = []
        assert restorer._traits.bytes_a_pixel  # counted now, on a small image that is larger than the limit

        def refuse(network, given):
            image = given[0]
            if min(image.shape[-2:]) > limit:
                self.refused.append(max(image.shape[-2:]))
                raise error("tried to allocate 1 GiB: can't allocate memory")

        restorer.network.register_forward_pre_hook(refuse)
        return restorer

    @pytest.mark.parametrize("tile", ["auto", None, 200])
    @pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
    def test_tiles_are_halved_until_they_fit(self, pooling, error, tile):
        picture = floats(150, 130)
        restorer = self.limited(pooling, 80, error, tile=tile, statistics="exact")
        whole = Restorer.load(pooling, device="cpu", tile=None)(picture)
        np.testing.assert_allclose(restorer(picture), whole, rtol=0, atol=1e-5)
        assert self.refused
        assert self.refused == sorted(self.refused, reverse=True)

    def test_of_a_local_network_too(self, model, restorer):
        batch = uneven(2, 3, 90, 100)
        torch.testing.assert_close(self.limited(model, 60)(batch), restorer(batch), rtol=0, atol=1e-5)

    def test_the_next_picture_begins_anew(self, model):
        restorer = self.limited(model, 60)
        for _ in range(2):
            restorer(floats(90, 90))
        assert self.refused == [90, 90]
        assert tiles_in(restorer, floats(50, 50)) == 1

    def test_progress_counts_the_passes_of_exact_statistics_too(self, pooling):
        restorer = Restorer.load(pooling, device="cpu", tile=16, statistics="exact")
        told = []
        restorer(floats(40, 40), progress=lambda *counts: told.append(counts))
        assert restorer._traits.depth > 1
        assert told[-1] == (9 * (1 + restorer._traits.depth) + 1,) * 2
        assert [done for done, _ in told] == [*range(1, len(told) + 1)]

    def test_progress_counts_the_tiles_that_are_made(self, model):
        assert tiles_in(self.limited(model, 60), floats(90, 90)) == 4

    def test_where_nothing_helps_it_is_an_error(self, pooling):
        restorer = self.limited(pooling, 2)  # so little that strips can still be measured
        with pytest.raises(
            ManasError, match=r"cpu has too little memory even for tiles of 32 pixels; free some"
        ) as end:
            restorer(floats(150, 130))
        assert isinstance(end.value.__cause__, torch.OutOfMemoryError)

    def test_other_errors_are_not_hidden(self, model):
        restorer = Restorer.load(model, device="cpu")

        def fail(network, given):
            raise RuntimeError("shapes do not fit")

        restorer.network.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            restorer(floats(8, 8))


class TestStrength:
    @pytest.mark.parametrize("tile", ["auto", 8])
    def test_zero_is_the_picture_itself(self, pooling, tile):
        restorer = Restorer.load(pooling, device="cpu", strength=0, tile=tile)
        for picture in (pixels(17, 9), pixels(17, 9).astype(np.uint16) * 257 + 11, floats(17, 9)):
            np.testing.assert_array_equal(restorer(picture), picture)

    @pytest.mark.parametrize("strength", [0.5, 0.25])
    def test_between_zero_and_one_it_is_a_mixture(self, pooling, strength):
        picture = floats(17, 9)
        whole = Restorer.load(pooling, device="cpu", strength=1.0)(picture)
        np.testing.assert_array_equal(whole, Restorer.load(pooling, device="cpu")(picture))
        mixed = Restorer.load(pooling, device="cpu", strength=strength)(picture)
        inside = (whole > 0) & (whole < 1)  # elsewhere it is cut off after mixing
        expected = (1 - strength) * picture + strength * whole
        np.testing.assert_allclose(mixed[inside], expected[inside], rtol=0, atol=1e-6)


class TestEnsemble:
    @pytest.mark.parametrize("tile", [None, 8])
    def test_of_a_turned_image_it_is_the_turned_one(self, pooling, tile):
        restorer = Restorer.load(pooling, device="cpu", ensemble=True, tile=tile)
        batch = uneven(1, 3, 12, 16)
        once = restorer(batch)
        for turn in ALL_TURNS:
            torch.testing.assert_close(restorer(turn.of(batch)), turn.of(once), rtol=0, atol=1e-5)

    def test_it_is_the_mean_of_eight(self, pooling):
        alone = Restorer.load(pooling, device="cpu", tile=None)
        together = Restorer.load(pooling, device="cpu", tile=None, ensemble=True)
        batch = 0.4 + 0.2 * uneven(1, 3, 12, 16)
        with torch.no_grad():
            each = [turn.undo(alone.network(turn.of(batch)).fused) for turn in ALL_TURNS]
        expected = torch.stack(each).mean(0).clamp(0, 1)
        torch.testing.assert_close(together(batch), expected, rtol=0, atol=1e-6)
        assert (together(batch) - alone(batch)).abs().max() > 1e-3


class TestOptimised:
    @pytest.mark.parametrize("tile", [None, 16])
    def test_it_changes_nothing(self, pooling, tile):
        picture = floats(40, 30)
        plain = Restorer.load(pooling, device="cpu", optimise=False, tile=tile)
        made = Restorer.load(pooling, device="cpu", tile=tile)
        np.testing.assert_allclose(made(picture), plain(picture), rtol=0, atol=1e-5)
        left = [sum(isinstance(m, nn.BatchNorm2d) for m in each.network.modules()) for each in (plain, made)]
        assert left[0] > 0 == left[1]

    def test_compilation_is_of_the_same_function_for_any_size(self, model, restorer, monkeypatch):
        asked = []

        def compiled(network, **options):
            asked.append(options)
            return network

        monkeypatch.setattr(torch, "compile", compiled)
        picture = floats(9, 9)
        np.testing.assert_array_equal(
            Restorer.load(model, device="cpu", compiled=True)(picture), restorer(picture)
        )
        assert asked == [{"dynamic": True}]


class TestThreads:
    """Many at once give what one after the other gives, bit for bit."""

    @pytest.mark.parametrize("statistics", ["sampled", "exact"])
    @pytest.mark.parametrize("tile", [None, 8])
    def test_over_different_pictures(self, pooling, statistics, tile, one_thread):
        pictures = [floats(16 + n, 30 - n) for n in range(8)]
        options = {"device": "cpu", "tile": tile, "statistics": statistics}
        alone = Restorer.load(pooling, **options)
        expected = [alone(picture) for picture in pictures]
        shared = Restorer.load(pooling, **options)
        start = threading.Barrier(8)

        def restored(picture):
            torch.set_num_threads(1)  # a setting of each thread
            start.wait(30)
            return shared(picture)

        with ThreadPoolExecutor(8) as threads:
            for found, wanted in zip(threads.map(restored, pictures), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)

    def test_over_the_same_picture(self, pooling, one_thread):
        shared, picture = Restorer.load(pooling, device="cpu", tile=8), pixels(20, 20)
        with ThreadPoolExecutor(8, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            restored = list(threads.map(shared, [picture] * 16))
        for each in restored:
            np.testing.assert_array_equal(each, restored[0])


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
            np.zeros((4, 4, 3), np.int16),
            np.zeros((4, 4, 3), complex),
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

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tile": 0}, "tile must be at least 1 pixels, got 0"),
            ({"tile": -8}, "tile must be at least 1"),
            ({"statistics": "local"}, "statistics=local: choose sampled or exact"),
            ({"precision": "fp8"}, "precision=fp8: choose auto, float32, bf16 or fp16"),
            ({"strength": 1.1}, "strength=1.1: choose"),
            ({"strength": -0.1}, "strength=-0.1"),
            ({"strength": float("nan")}, "strength=nan"),
            ({"device": "tpu"}, "device=tpu is not available"),
            ({"task": "dehaze"}, "no tower for 'dehaze'"),
        ],
        ids=str,
    )
    def test_wrong_options(self, options, message, model):
        with pytest.raises(ManasError, match=message):
            Restorer.load(model, **{"device": "cpu", **options})

    @pytest.mark.parametrize("tile", ["large", 64.0])
    def test_tiles_that_are_no_number(self, tile, model):
        with pytest.raises(ManasError, match="tile"):
            Restorer.load(model, device="cpu", tile=tile)

    def test_an_unknown_option(self, model):
        with pytest.raises(TypeError, match="halo"):
            Restorer.load(model, device="cpu", halo=3)


def test_the_description_is_at_hand(restorer):
    assert list(restorer.description.genotype.space.towers) == ["derain", "desnow"]
    assert not restorer.network.training
    assert restorer.device.type == "cpu"


def test_a_network_can_be_given_without_a_file(randomised, model):
    given = restoration(randomised, 0, towers=2).train()
    description = Restorer.load(model).description
    picture = floats(8, 8)
    found = Restorer(given, description, device="cpu")(picture)
    with torch.no_grad():
        expected = given.eval()(torch.from_numpy(picture).permute(2, 0, 1)[None]).fused.clamp(0, 1)
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), rtol=0, atol=1e-5)


MEASURED = """
import numpy as np
from manas.architecture.genotype import Genotype
from manas.inference.restorer import Restorer
from manas.restoration.model_file import ModelDescription
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive

def peak():
    # Of this program alone: the maximum that getrusage tells is inherited from the one that started it.
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) / 1024  # MiB

space = RestorationSpace(towers={"derain": DualRecursive(channels=2, stages=1, recursions=1)})
genotype = Genotype(space=space, choices={})
restorer = Restorer(genotype.network(), ModelDescription(genotype=genotype), device="cpu", tile=512)
restorer(np.zeros((600, 600, 3), np.uint8))
before = peak()
image = np.full((3000, 3000, 3), 77, np.uint8)
restored = restorer(image)
print(peak() - before, restored.nbytes / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")
def test_a_large_picture_needs_no_more_than_itself_its_result_and_tiles():
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, env=environment()
    )
    grown, size = map(float, done.stdout.split())
    # A copy of either in float32 would be 103 MiB more.
    assert size < grown < 2 * size + 60


def test_pil_images_come_back_upright_and_of_eight_bit(restorer, tmp_path):
    lying = Image.fromarray(pixels(6, 9))
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    opened = Image.open(tmp_path / "lying.png")
    upright = Image.fromarray(np.ascontiguousarray(np.rot90(pixels(6, 9), -1)))
    np.testing.assert_array_equal(np.asarray(restorer(opened)), np.asarray(restorer(upright)))
    levels = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    grey = Restorer(restorer.network, restorer.description, device="cpu", strength=0)(Image.fromarray(levels))
    assert np.abs(np.asarray(grey)[..., 0] - levels / 257).max() <= 0.5
