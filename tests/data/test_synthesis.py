"""Synthesised data sets: reproducible to the byte, readable as what they say they are, whole or not there."""

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch

import manas
from manas.data.archives import read_archive
from manas.data.images import read_image, write_image
from manas.data.weather import degrade
from manas.errors import ManasError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("a", (24, 32)), ("b.x", (40, 24)), ("inner/a", (24, 24))):
        write_image(root / f"{name}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EVERYTHING = {"family": "mixed", "capture": {"noise": (1, 3), "jpeg": (70, 95)}, "masks": True, "seed": 3}


@pytest.mark.parametrize(
    "options", [{}, EVERYTHING, {"layout": "did_mdn"}, {"weather": "snow", "nested": False}]
)
def test_the_same_call_writes_the_same_bytes(photographs, tmp_path, options):
    first, second = (contents(manas.synthesize(photographs, tmp_path / name, **options)) for name in "ab")
    assert first == second
    other = contents(manas.synthesize(photographs, tmp_path / "c", **{**options, "seed": 4}))
    assert other.keys() == first.keys()
    assert sum(other[name] != first[name] for name in first) > len(first) // 2


def test_it_holds_what_the_generator_makes(photographs, tmp_path):
    out = manas.synthesize(photographs, tmp_path / "out", weather="snow", levels=("heavy", "light"), seed=5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["options"]["levels"] == ["heavy", "light"]
    for name, scene in manifest["scenes"].items():
        clean = read_image(out / "clean" / f"{name}.png")
        assert np.array_equal(clean, read_image(photographs / f"{name}.png"))
        assert scene["size"] == [clean.shape[1], clean.shape[0]]
        fallen = degrade(clean.astype(np.float32) / 255, "snow", ("heavy", "light"), seed=scene["seed"])
        for level, image in zip(("heavy", "light"), fallen.degraded, strict=True):
            written = read_image(out / level / f"{name}.png")
            np.testing.assert_allclose(written, image * 255, atol=0.51)


def test_the_manifest_names_the_versions_that_its_bytes_depend_on(photographs, tmp_path):
    manifest = json.loads((manas.synthesize(photographs, tmp_path / "out") / "manifest.json").read_text())
    versions = {"manas": manas, "numpy": np, "torch": torch, "pillow": PIL}
    assert {name: manifest[name] for name in versions} == {
        name: package.__version__ for name, package in versions.items()
    }


def test_a_scene_does_not_depend_on_the_other_photographs(photographs, tmp_path):
    write_image(tmp_path / "alone" / "a.png", read_image(photographs / "a.png"))
    alone = contents(manas.synthesize(tmp_path / "alone", tmp_path / "one"))
    whole = contents(manas.synthesize(photographs, tmp_path / "all"))
    assert alone["heavy/a.png"] == whole["heavy/a.png"]
    assert whole["heavy/a.png"] != whole["heavy/inner/a.png"]


@pytest.mark.parametrize("options", [{}, {"masks": True}, {"layout": "did_mdn"}])
def test_it_is_read_as_the_data_set_that_it_is(photographs, tmp_path, options):
    archive = read_archive(manas.synthesize(photographs, tmp_path / "out", **options))
    assert len(archive.scenes) == 3
    assert archive.levels == ("light", "medium", "heavy")
    for scene in archive.scenes:
        clean = scene.clean.read().astype(float)
        errors = [np.abs(scene.degraded[level].read() - clean).mean() for level in archive.levels]
        assert errors[0] < errors[1] < errors[2]
        if "masks" in options:
            assert set(scene.masks) == set(archive.levels)
            assert scene.masks["heavy"].path.parts[-len(Path(scene.name).parts) - 1] == "heavy"


def test_masks_are_the_layers(photographs, tmp_path):
    out = manas.synthesize(photographs, tmp_path / "out", weather="snow", masks=True)
    seed = json.loads((out / "manifest.json").read_text())["scenes"]["a"]["seed"]
    clean = read_image(photographs / "a.png").astype(np.float32) / 255
    opacity = degrade(clean, "snow", seed=seed).opacity
    for level, layer in zip(("light", "medium", "heavy"), opacity, strict=True):
        mask = read_image(out / "masks" / level / "a.png")
        np.testing.assert_allclose(mask[..., 0], layer * 255, atol=0.51)


def test_large_photographs_are_scaled_down(photographs, tmp_path):
    out = manas.synthesize(photographs, tmp_path / "out", long_side=28)
    sizes = {name: read_image(out / "clean" / f"{name}.png").shape[:2] for name in ("a", "b.x", "inner/a")}
    assert sizes == {"a": (21, 28), "b.x": (28, 17), "inner/a": (24, 24)}


def test_a_photograph_that_cannot_be_read_leaves_nothing(photographs, tmp_path):
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "a.png", read_image(photographs / "a.png"))
    (tmp_path / "photos" / "b.png").write_bytes(b"no image")
    with pytest.raises(ManasError, match=r"b\.png: cannot read"):
        manas.synthesize(tmp_path / "photos", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_only_an_earlier_synthesis_is_replaced(photographs, tmp_path):
    out = manas.synthesize(photographs, tmp_path / "out")
    before = contents(out)
    with pytest.raises(ManasError, match="holds a synthesised data set"):
        manas.synthesize(photographs, out, seed=1)
    assert contents(out) == before
    manas.synthesize(photographs, out, seed=1, overwrite=True)
    assert contents(out) != before
    foreign = tmp_path / "foreign"
    write_image(foreign / "precious.png", read_image(photographs / "a.png"))
    with pytest.raises(ManasError, match="is no synthesised data set"):
        manas.synthesize(photographs, foreign, overwrite=True)
    assert (foreign / "precious.png").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "out"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weather": "hail"}, "weather"),
        ({"family": "sideways"}, "family is 'sideways'"),
        ({"levels": ("light", "light")}, "named twice"),
        ({"levels": ()}, "levels"),
        ({"layout": "did_mdn", "masks": True}, "did_mdn is for rain without masks"),
        ({"layout": "did_mdn", "weather": "snow"}, "did_mdn is for rain"),
        ({"capture": {"jpeg": (98, 85)}}, "two numbers in order"),
        ({"sed": 3}, "did you mean 'seed'"),
        ({"long_side": 3}, "long_side"),
    ],
)
def test_options_that_do_not_fit_are_refused(photographs, tmp_path, options, message):
    with pytest.raises(ManasError, match=message):
        manas.synthesize(photographs, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
