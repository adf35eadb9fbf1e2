"""The sources and reports that the page on data shows are read and printed so."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import yaml
from data.archives.layouts import did_mdn, folders, one_folder, picture
from pages.shown import block, blocks, commands

import manas
from manas.commands.main import main
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs
from manas.data.weather import degrade


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """The two sets whose reports are shown: synthesised rain, and one with planted near-duplicates."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    found = {**builtin_photographs("training"), **builtin_photographs("held_out")}
    for name in builtin_photographs("training"):
        write_image(Path("photographs") / f"{name}.png", read_image(found[name]))
    manas.synthesize("photographs", "data/rain")
    planted = {
        "001.jpg": read_image(found["astronaut"]),
        "002.png": read_image(found["rocket"])[:, ::-1],
        "003.png": read_image(found["motorcycle_left"])[100:356, 200:456],
        "004.png": read_image(found["chelsea"]),
        "005.png": read_image(found["coffee"]),
    }
    for place, (name, clean) in enumerate(planted.items()):
        rain = degrade(clean.astype(np.float32) / 255, "rain", ("medium",), seed=place).degraded[0]
        write_image(Path("data/test/target") / name, clean)
        write_image(Path("data/test/input") / name, (rain * 255 + 0.5).astype(np.uint8))


def test_the_sources_that_are_shown_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    did_mdn().write(Path("data/DID-MDN-training"))
    one_folder("norain-{}.png", "rain-{}.png").write(Path("data/RainTrainH"))
    folders("folders", "target/{}.png", "input/{}.png", numbers=(2, 30)).write(Path("data/Rain100H"))
    for number in (4, 5):
        write_image(Path("data/photographs") / f"{number}.png", picture(number))
    shown = yaml.safe_load(block("docs/data.md", "yaml"))["data"]
    shown |= {"cache_folder": "decoded", "patch": 16, "validation_patch": 16, "workers": 0}
    data = Backgrounds(DataConfig(**shown), ["derain", "desnow"], seed=0, held_share=0.4)
    assert [len(source.pictures) for source in data.sources] == [3, 2, 2]
    left_out, shared = data.notes
    assert left_out == "data.sources.1: left out 1 backgrounds that are in data/Rain100H"
    assert shared.startswith("data.sources.1: 2 of its backgrounds show the same picture as")
    next(data.batches("kept"))
    assert list(Path("decoded").glob("*/*.npy"))


def test_the_note_on_copies_is_what_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, path in zip("123", list(builtin_photographs("training").values())[:3], strict=True):
        write_image(Path("a") / f"{name}.jpg", read_image(path))
        write_image(Path("b") / f"{int(name) + 3}.png", read_image(path))
    sources = tuple(SourceConfig(task="derain", weather="rain", photographs=folder) for folder in "ab")
    data = Backgrounds(DataConfig(sources=sources), ["derain"], seed=0, held_share=0.4)
    assert [block("docs/data.md", "text", "data.sources.1").strip()] == data.notes


def test_the_reports_on_data_are_what_is_printed(sets, capsys):
    checks = [words[1:] for words in commands("docs/data.md") if words[1:3] == ["data", "check"]]
    for arguments, code in zip(checks, (0, 1), strict=True):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert (stop.value.code or 0) == code
        printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()).strip()
        last = printed[printed.index("backgrounds in two sets") :] if code else printed
        shown = [dedent(report).strip() for report in blocks("docs/data.md", "text")]
        assert last in shown, printed
