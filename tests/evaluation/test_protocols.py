"""The named protocols against golden numbers, scikit-image, MATLAB's rules and each other."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manas.data.images import read_image
from manas.errors import ManasError
from manas.evaluation.batch import as_batch
from manas.evaluation.evaluate import evaluate
from manas.evaluation.metrics import luma, psnr_y
from manas.evaluation.pixels import BorderCrop
from manas.evaluation.protocols import PROTOCOLS, protocol_named
from manas.evaluation.scenes import DegradedScene
from manas.restoration.ssim import ssim

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

# PSNR and SSIM of three protocols, SSIM of derain-prenet, and SSIM of Y with zero padding
GOLDEN = {
    "chelsea": ((30.2998, 0.747861), (30.2966, 0.747919), (28.9779, 0.722855), 0.747861, 0.756910),
    "astronaut": ((30.3899, 0.746695), (30.3716, 0.746012), (29.0697, 0.689495), 0.900090, 0.751737),
    "coffee": ((30.4218, 0.744164), (30.4219, 0.744447), (29.0854, 0.702236), 0.888171, 0.750550),
}


def streaked(clean):
    """The degradation of the golden table: 24 levels brighter where (x // 3 + y) mod 7 = 0."""
    row, column = np.mgrid[: clean.shape[0], : clean.shape[1]]
    lit = ((column // 3 + row) % 7 == 0)[..., None]
    return np.clip(clean.astype(int) + 24 * lit, 0, 255).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pair(height, width):
    """Two images that are alike, so that no similarity is near nothing."""
    clean = noise(height, width)
    return np.clip(clean * 0.8 + 0.2 * noise(height, width, seed=1) + 4, 0, 255).astype(np.uint8), clean


def matlab_luma(image):
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255


def downsampled(image, factor):
    """Y under MATLAB's box; scipy's even windows lie to the left of the centre, MATLAB's to the right."""
    shift = -1 if factor % 2 == 0 else 0
    return uniform_filter(matlab_luma(image), factor, mode="reflect", origin=shift)[::factor, ::factor]


def expected(image, reference, data_range=255, **settings):
    """What scikit-image has for two planes, or two images of three channels."""
    channels = {"channel_axis": -1} if image.ndim == 3 else {}
    similarity = structural_similarity(image, reference, data_range=data_range, **channels, **settings)
    return {"psnr": peak_signal_noise_ratio(reference, image, data_range=255), "ssim": similarity}


def agrees(name, height, width, values):
    """Whether a protocol says what `values`, a function of an image and its reference, says."""
    restored, clean = pair(height, width)
    assert protocol_named(name).measure(restored, clean) == pytest.approx(values(restored, clean), abs=1e-6)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name):
    clean = getattr(data, name)()
    degraded = streaked(clean)
    *scores, ssim_down, ssim_padded = GOLDEN[name]
    for protocol, (psnr, similarity) in zip(("derain", "derain-matlab-u8", "rgb"), scores, strict=True):
        measured = PROTOCOLS[protocol].measure(degraded, clean)
        assert measured["psnr"] == pytest.approx(psnr, abs=5.1e-5)
        assert measured["ssim"] == pytest.approx(similarity, abs=1e-6)
    derain, prenet = (PROTOCOLS[protocol].measure(degraded, clean) for protocol in ("derain", "derain-prenet"))
    assert prenet["psnr"] == derain["psnr"]
    assert prenet["ssim"] == pytest.approx(ssim_down, abs=1e-6)
    image, reference = as_tensor(degraded), as_tensor(clean)
    padded = ssim(luma(image) / 255, luma(reference) / 255, mode="loss")
    assert float(padded) == pytest.approx(ssim_padded, abs=1e-6)
    in_unit_range = image.float() / 255, reference.float() / 255
    assert float(psnr_y(*in_unit_range)) == pytest.approx(derain["psnr"], abs=1e-10)


class TestAgainstScikitImage:
    """Every protocol, from the description of it alone."""

    def test_derain(self):
        agrees("derain", 33, 47, lambda *images: expected(*map(matlab_luma, images), **WANG))

    def test_derain_matlab_u8(self):
        def values(*images):
            return expected(*(np.floor(matlab_luma(image) + 0.5) for image in images), **WANG)

        agrees("derain-matlab-u8", 33, 47, values)

    def test_rgb(self):
        agrees("rgb", 33, 47, lambda *images: expected(*(image.astype(float) for image in images), **WANG))

    @pytest.mark.parametrize(
        ("height", "width", "top", "left"), [(32, 48, 0, 0), (35, 63, 1, 7), (16, 17, 0, 0)]
    )
    def test_rgb_skimage(self, height, width, top, left):
        rows, columns = height // 16 * 16, width // 16 * 16

        def values(*images):
            middle = (image[top : top + rows, left : left + columns].astype(float) for image in images)
            return expected(*middle, win_size=7)

        agrees("rgb-skimage", height, width, values)

    @pytest.mark.parametrize(
        ("height", "width", "resized"),
        [(33, 47, (48, 48)), (32, 48, (32, 48)), (20, 1500, (16, 1024)), (1100, 30, (1024, 32))],
    )
    def test_allweather(self, height, width, resized):
        def values(*images):
            pictures = [
                Image.fromarray(image).resize(resized[::-1], Image.Resampling.LANCZOS) for image in images
            ]
            return expected(*(matlab_luma(np.asarray(picture)) for picture in pictures), **WANG)

        agrees("allweather", height, width, values)

    def test_transweather_legacy(self):
        def misread(image):
            pixels = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(image.shape)
            return pixels @ np.array([0.114, 0.587, 0.299])  # blue first, as BGR has it

        agrees("transweather-legacy", 32, 48, lambda *images: expected(*map(misread, images), data_range=510))

    @pytest.mark.parametrize("scale", [4, 2, 0])
    def test_sr(self, scale):
        restored, clean = pair(33, 47)
        planes = [matlab_luma(image[scale : 33 - scale, scale : 47 - scale]) for image in (restored, clean)]
        protocol = PROTOCOLS["sr"] if scale == 4 else replace(PROTOCOLS["sr"], size=BorderCrop(scale))
        assert protocol.measure(restored, clean) == pytest.approx(expected(*planes, **WANG), abs=1e-6)

    @pytest.mark.parametrize(
        ("height", "width", "factor"),
        [(383, 390, 1), (384, 391, 2), (401, 640, 2), (640, 641, 3), (650, 645, 3), (896, 897, 4)],
    )
    def test_derain_prenet(self, height, width, factor):
        def values(*images):
            psnr = expected(*map(matlab_luma, images), **WANG)["psnr"]
            return expected(*(downsampled(image, factor) for image in images), **WANG) | {"psnr": psnr}

        agrees("derain-prenet", height, width, values)


@pytest.mark.parametrize(("side", "factor"), [(401, 2), (640, 3)])
def test_downsampling_repeats_the_outermost_pixels(side, factor):
    """All of the loss is at the border, which has so little weight that elsewhere it would be lost."""
    clean = np.full((side, side, 3), 100, np.uint8)
    restored = clean.copy()
    restored[[1, -2]] = restored[:, [1, -2]] = 200
    similarity = expected(*(downsampled(image, factor) for image in (restored, clean)), **WANG)["ssim"]
    lost = 1 - PROTOCOLS["derain-prenet"].measure(restored, clean)["ssim"]
    assert lost > 1e-6
    assert lost == pytest.approx(1 - similarity, rel=1e-6)


def test_downsampling_by_two_averages_a_pixel_and_the_next():
    """By hand, because scipy's centre is only known from its documentation: bright where i mod 4 < 2."""
    clean = np.zeros((400, 400, 3), np.uint8)
    clean[:, np.arange(400) % 4 < 2] = 255
    shifted = np.roll(clean, 1, axis=1)  # blocks of two become halves of two: all grey
    small, grey = np.zeros((3, 200, 200)), np.full((3, 200, 200), 127.5)
    small[..., ::2] = 255
    by_hand = ssim(luma(torch.tensor(small)), luma(torch.tensor(grey)), mode="metric")
    assert PROTOCOLS["derain-prenet"].measure(clean, shifted)["ssim"] == pytest.approx(float(by_hand), abs=1e-9)


def assert_alike(found, others):
    assert [list(scores) for scores in found] == [list(scores) for scores in others]
    values = [[[*scores.values()] for scores in batch] for batch in (found, others)]
    np.testing.assert_allclose(*values, atol=1e-10)


class TestBatches:
    """Several images at once are what each is alone."""

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_a_batch_is_its_images(self, name):
        images, references = zip(
            *(pair(40, 36), pair(40, 36)[::-1], (noise(40, 36, 2), noise(40, 36, 3))), strict=True
        )
        alone = list(map(PROTOCOLS[name].measure, images, references))
        batch, targets = (torch.stack([as_tensor(each).byte() for each in of]) for of in (images, references))
        assert_alike(PROTOCOLS[name].measure_batch(batch, targets), alone)
        shared = PROTOCOLS[name].measure_batch(*as_batch(images, references[0]))
        assert shared == [PROTOCOLS[name].measure(image, references[0]) for image in images]

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_at_once_as_on_a_gpu(self, name):
        """What is split on the CPU is one piece there."""
        images = torch.stack([as_tensor(noise(400, 40, seed)).byte() for seed in range(3)])
        protocol = PROTOCOLS[name]
        together = protocol._measured(images[:2], images[1:])
        assert_alike(together, protocol.measure_batch(images[:2], images[1:]))

    def test_no_image(self):
        assert (
            PROTOCOLS["derain"].measure_batch(
                torch.zeros(0, 3, 20, 20, dtype=torch.uint8), torch.zeros(3, 20, 20, dtype=torch.uint8)
            )
            == []
        )

    @pytest.mark.parametrize(
        ("shape", "reference", "dtype"),
        [
            ((3, 20, 20), (3, 20, 20), torch.uint8),
            ((2, 1, 20, 20), (2, 1, 20, 20), torch.uint8),
            ((2, 3, 20, 20), (2, 3, 20, 21), torch.uint8),
            ((2, 3, 20, 20), (1, 3, 20, 20), torch.uint8),
            ((2, 3, 20, 20), (3, 20, 20), torch.float32),
        ],
    )
    def test_other_shapes_and_types_are_refused(self, shape, reference, dtype):
        with pytest.raises(ManasError, match=r"uint8 \(N, 3, H, W\)"):
            PROTOCOLS["derain"].measure_batch(
                torch.zeros(shape, dtype=dtype), torch.zeros(reference, dtype=dtype)
            )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_evaluation_works_by_every_protocol(name):
    degraded, clean = pair(24, 40)
    scenes = [DegradedScene("rain", "light", "a", degraded, clean)]
    evaluation = evaluate(lambda image: clean, scenes, protocol=name)
    assert evaluation.protocol == name
    assert evaluation.images[0].degraded == PROTOCOLS[name].measure(degraded, clean)
    assert evaluation.images[0].restored == {"psnr": math.inf, "ssim": pytest.approx(1, abs=1e-9)}


@pytest.mark.skipif("MANAS_TEST_DATA" not in os.environ, reason="MANAS_TEST_DATA is not set")
def test_protocols_of_rain100_differ_as_published():
    """On a few of the scenes: the spread between protocols is held against the table, not its means."""
    folder = Path(os.environ["MANAS_TEST_DATA"]) / "rain100"
    names = sorted(path.name for path in folder.glob("clean/*.png"))[:6]
    if not names:
        pytest.skip("no rain100/clean in MANAS_TEST_DATA")
    pairs = [[read_image(folder / side / name) for side in ("light", "clean")] for name in names]
    scores = {key: [PROTOCOLS[key].measure(*images) for images in pairs] for key in PROTOCOLS}
    mean = {key: np.mean([[*each.values()] for each in values], axis=0) for key, values in scores.items()}
    assert mean["derain-matlab-u8"] == pytest.approx(mean["derain"], abs=0.01)
    assert mean["derain-prenet"] == pytest.approx(mean["derain"], abs=1e-12)  # 320 pixels: not downsampled
    assert mean["derain"][0] - mean["rgb"][0] == pytest.approx(26.9029 - 25.5234, abs=0.05)


def test_identical_images_are_infinite_and_one():
    clean = noise(16, 16)
    scores = PROTOCOLS["derain"].measure(clean, clean)
    assert scores["psnr"] == math.inf
    assert scores["ssim"] == pytest.approx(1, abs=1e-12)


def test_measures_read_only_and_reversed_arrays():
    clean, restored = noise(16, 16), noise(16, 16, seed=1)
    clean.flags.writeable = False
    mirrored = PROTOCOLS["derain"].measure(restored[:, ::-1], clean[:, ::-1])
    assert mirrored == pytest.approx(PROTOCOLS["derain"].measure(restored, clean), abs=1e-9)


@pytest.mark.parametrize(
    ("restored", "message"),
    [
        (noise(20, 31), "31 x 20 pixels and its reference 30 x 20"),
        (noise(20, 30) / 255, "must be uint8"),
        (noise(20, 30)[..., 0], "must be uint8"),
        (np.zeros((20, 30, 4), np.uint8), "must be uint8"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(restored, message):
    with pytest.raises(ManasError, match=message):
        PROTOCOLS["derain"].measure(restored, noise(20, 30))


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ManasError, match="at least 11 x 11"):
        PROTOCOLS["derain"].measure(noise(8, 30), noise(8, 30))


def test_an_unknown_protocol_names_the_allowed():
    with pytest.raises(ManasError, match="'drain': choose one of derain, derain-matlab-u8, derain-prenet"):
        protocol_named("drain")


def test_protocols_know_their_name_and_say_what_they_are():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.description


@pytest.mark.parametrize(
    ("name", "height", "message"),
    [
        ("derain-prenet", 10, "at least 11 x 11"),
        ("rgb", 10, "at least 11 x 11"),
        ("rgb-skimage", 15, "multiples of 16 and needs images of at least 16 x 16 pixels, got 30 x 15"),
        ("sr", 18, "crops 4 pixels at each border and needs images of at least 19 x 19 pixels, got 30 x 18"),
    ],
)
def test_images_too_small_for_a_protocol_are_refused(name, height, message):
    protocol = protocol_named(name)
    with pytest.raises(ManasError, match=message):
        protocol.measure(*pair(height, 30))
    protocol.measure(*pair(height + 1, 30))


@pytest.mark.parametrize("name", ["allweather", "transweather-legacy"])
def test_what_resizes_takes_any_size(name):
    assert math.isfinite(protocol_named(name).measure(*pair(1, 5))["psnr"])
