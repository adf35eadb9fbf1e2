"""The networks that come with the package: small, described, worth having, and the same in tiles."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import manas
from manas.data.images import as_floats, read_image
from manas.data.photographs import builtin_photographs
from manas.evaluation.protocols import protocol_named
from manas.evaluation.scenes import generated_scenes
from manas.exporting.front_matter import listed, read_front_matter
from manas.models import DEFAULT, card_of, installed_models
from manas.restoration.model_file import load_model

LARGEST = 3_000_000  # bytes
HELD_OUT = builtin_photographs("held_out")


@pytest.fixture(scope="module")
def restorer():
    return manas.Restorer.load(device="cpu")


@pytest.mark.parametrize("name", installed_models())
def test_file_and_card_belong_together(name):
    file, card = installed_models()[name], card_of(name).read_text(encoding="utf-8")
    assert file.stat().st_size <= LARGEST
    assert hashlib.sha256(file.read_bytes()).hexdigest() in card
    content = read_front_matter(card)
    assert content["license"] == "apache-2.0"
    scores = [each for each in listed(content) if each.measure.startswith("psnr") and each.before is not None]
    assert scores
    assert all(each.after > each.before for each in scores)


def test_torch_does_not_import_its_compiler():
    """Which would take longer than the picture of most people."""
    program = (
        "import sys, manas, numpy; manas.Restorer.load(device='cpu')(numpy.zeros((64, 64, 3), numpy.float32)); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_it_is_the_default():
    (network, description), (default, _) = load_model(DEFAULT), load_model()
    torch.testing.assert_close(network.state_dict(), default.state_dict(), rtol=0, atol=0)
    assert description.training["license"] == "apache-2.0"


@pytest.mark.parametrize(("weather", "gain"), [("rain", 3), ("snow", 3)])
def test_it_restores_photographs_that_it_has_not_seen(restorer, weather, gain):
    measure = protocol_named("derain").measure
    for scene in generated_scenes(HELD_OUT, weather, levels=("medium",)):
        part = np.s_[:256, :320]
        before = measure(scene.degraded[part], scene.clean[part])["psnr"]
        after = measure(restorer(scene.degraded[part].copy()), scene.clean[part])["psnr"]
        assert after > before + gain


@pytest.mark.parametrize("name", HELD_OUT)
def test_it_leaves_a_clean_photograph_alone(restorer, name):
    clean = read_image(HELD_OUT[name])[:256, :320].copy()
    assert protocol_named("derain").measure(restorer(clean), clean)["psnr"] > 35
    assert abs(float(restorer(clean).mean()) - float(clean.mean())) < 1  # grey level of 255


def test_tiles_need_to_know_nothing_of_each_other(restorer):
    (scene,) = generated_scenes({"coffee": HELD_OUT["coffee"]}, "rain", levels=("heavy",))
    picture = as_floats(scene.degraded)
    tile, inner = restorer(picture[:, :320].copy()), np.s_[:, : 320 - 32]  # as if the picture ended there
    difference = np.abs(tile[inner] - restorer(picture)[:, :320][inner]) * 255
    assert difference.mean() < 1
