"""manas evaluate, compare and explain-metrics, as a user calls them; the models are arithmetic."""

import numpy as np
import pytest

from manas.data.images import read_image, write_image
from manas.evaluation.evaluate import evaluate
from manas.evaluation.results import Evaluation
from manas.inference.restorer import Restorer

BRIGHTER = {"good": 2, "bad": 6}  # than the original is what a model makes of it; heavy images by 30 more

# Of every restorer: numbers are those of float32 and of the whole image, whatever the machine.
OPTIONS = {"space": None, "precision": "float32", "statistics": "exact"}


def noise(path, seed, more=0):
    image = np.random.default_rng(seed).integers(20, 200, (16, 24, 3), dtype=np.uint8)
    return write_image(path, image + np.uint8(more))


@pytest.fixture
def pairs(tmp_path):
    """Two levels of six backgrounds."""
    for seed in range(6):
        for level, more in (("clean", 0), ("light", 10), ("heavy", 40)):
            noise(tmp_path / "pairs" / level / f"{seed}.png", seed, more)
    return tmp_path / "pairs"


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Models are functions of the image, by name; with other options of loading than these it would fail."""

    def load(path, **options):
        assert options == OPTIONS
        return lambda image: image - np.uint8(10 - BRIGHTER[path])

    monkeypatch.setattr(Restorer, "load", load)
    monkeypatch.setenv("COLUMNS", "80")


def test_options_of_the_network_are_handed_on(models, monkeypatch, run):
    given = []
    monkeypatch.setattr(Restorer, "load", lambda path, **options: given.append(options) or np.copy)
    run("evaluate", "--model", "a", "--weather", "rain", "--task", "derain", "--ensemble", "--device", "cpu")
    assert given == [{**OPTIONS, "device": "cpu", "task": "derain", "ensemble": True}]
    run("evaluate", "--model", "a", "--weather", "rain", "--task", "blind")
    assert given[1:] == [{**OPTIONS, "task": None}]


class TestEvaluate:
    def test_one_model(self, run, pairs):
        code, out, _ = run("evaluate", pairs, "--model", "good")
        assert code == 0
        lines = [" ".join(line.split()) for line in out.splitlines()]
        psnr = 20 * np.log10(255 / (2 * 219 / 255))
        assert lines[0].startswith("images PSNR degraded restored min max SSIM degraded restored min max worst")
        assert lines[1].startswith(f"pairs, light 6 29.45 {psnr:.2f} ± 0.00 {psnr:.2f} {psnr:.2f} ")
        assert [line[:12] for line in lines[2:4]] == ["pairs, heavy", "pairs 12 23."]
        assert "pairs: 12 images, protocol derain; means of per-image values" in lines[4]

    def test_every_file(self, run, pairs, tmp_path):
        names = ("scores.csv", "scores.md", "scores.tex", "picture.png", "gallery.png")
        files = [tmp_path / "new" / name for name in names]
        options = zip(("--csv", "--markdown", "--latex", "--picture", "--gallery"), files, strict=True)
        arguments = [each for option in options for each in option]
        code, out, _ = run("evaluate", pairs, "--model", "good", "--worst", 2, "--protocol", "rgb", *arguments)
        assert code == 0
        assert {*map(str, files)} <= {*out.split()}
        found = Evaluation.from_csv(files[0])
        expected = evaluate(lambda image: image - np.uint8(8), pairs, protocol="rgb")
        assert (found.data, found.model, found.protocol) == ("pairs", "good", "rgb")
        assert found.to_csv() == expected.to_csv().replace(",pairs,\n", ",pairs,good\n")
        assert files[1].read_text().startswith("pairs: 12 images, protocol rgb; ")
        assert r"\caption{pairs: 12 images, protocol rgb; " in files[2].read_text()
        picture, gallery = map(read_image, files[3:])
        assert len(picture) > 5 * len(gallery) / 2  # twelve rows, and two

    def test_two_models_are_compared(self, run, pairs, tmp_path):
        tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
        code, out, _ = run(
            *("evaluate", pairs, "--model", "good", "--model", "bad", "--csv", tables[0], "--csv", tables[1]),
            *("--markdown", tmp_path / "both.md", "--gallery", tmp_path / "gallery.png"),
        )
        assert code == 0
        words = " ".join(out.split())
        assert "pairs, light bad 6" in words
        assert "A is better, more than chance" in words
        assert "A is good, B is bad" in words
        assert [Evaluation.from_csv(table).model for table in tables] == ["good", "bad"]
        assert "model | images" in (tmp_path / "both.md").read_text()
        assert "95 % interval" in (tmp_path / "both.md").read_text()
        code, again, _ = run("compare", *tables)
        said = [line for line in out.splitlines() if "than chance" in line]
        assert [line for line in again.splitlines() if "than chance" in line] == said != []

    def test_restored_files(self, run, pairs, tmp_path):
        for seed in range(6):
            noise(tmp_path / "out" / f"{seed}.png", seed, 3)
        table = tmp_path / "scores.csv"
        code, out, _ = run(
            *("evaluate", pairs / "clean", "--restored", tmp_path / "out", "--restored", pairs / "light"),
            *("--csv", table, "--csv", tmp_path / "b.csv", "--gallery", tmp_path / "gallery.png"),
        )
        assert code == 0
        assert "clean: 6 images, protocol derain" in out
        assert "A is better, more than chance" in out
        found = Evaluation.from_csv(table).images[0]
        assert (found.group, found.level, found.name, found.degraded) == ("clean", "", "0", None)
        assert found.restored["psnr"] == pytest.approx(20 * np.log10(255 / (3 * 219 / 255)), abs=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], ["--model MODEL", "--restored FOLDER"]),
            (["--model", "good", "--restored", "out"], ["either of them"]),
            (["--model", "good", "--model", "good"], ["good: given twice"]),
            (["--model", "good", "--model", "bad", "--csv", "a.csv"], ["1 given for 2 models"]),
            (["--model", "good", "--gallery", "g.png", "--worst", 0], ["gallery of 0 images"]),
            (["--model", "good", "--protocol", "psnr"], ["'psnr'", "derain"]),
            (["--model", "good", "--weather", "rain"], ["pairs have their own weather"]),
            (["--restored", "out", "--weather", "rain"], ["folder of the originals"]),
            (["--restored", "out"], ["out", "no such folder"]),
            (["--restored", "out", "--task", "blind"], ["--task has no effect with --restored"]),
            (["--restored", "out", "--ensemble"], ["--ensemble has no effect with --restored"]),
            (["--restored", "out", "--device", "auto"], ["--device has no effect with --restored"]),
            (["--restored", "out", "--space", "a:B"], ["--space has no effect with --restored"]),
            (["--model", "good", "--worst", 6], ["--worst has no effect without --gallery"]),
            (["--model", "good", "--worst", 0], ["--worst has no effect without --gallery"]),
        ],
    )
    def test_mistakes_are_one_line(self, fails, pairs, arguments, says):
        fails("evaluate", pairs, *arguments, says=says)


class TestCompare:
    @pytest.fixture
    def tables(self, pairs, tmp_path):
        for name, more in BRIGHTER.items():
            evaluation = evaluate(lambda image, more=more: image - np.uint8(10 - more), pairs)
            (tmp_path / f"{name}.csv").write_text(evaluation.to_csv(), encoding="utf-8")
        return tmp_path / "good.csv", tmp_path / "bad.csv"

    def test_files(self, run, tables, tmp_path):
        code, out, _ = run("compare", *tables, "--markdown", tmp_path / "c.md", "--latex", tmp_path / "c.tex")
        assert code == 0
        assert "pairs: 12 images, protocol derain" in out
        assert f"A is {tables[0]}, B is {tables[1]}" in out
        assert "A is better, more than chance" in out
        assert "| A is better, more than chance |" in (tmp_path / "c.md").read_text()
        assert r"\toprule" in (tmp_path / "c.tex").read_text()

    def test_mistakes_are_one_line(self, fails, tables, tmp_path):
        one, other = tables
        lines = other.read_text().splitlines(keepends=True)
        damaged = tmp_path / "damaged.csv"
        damaged.write_text("".join(lines[:-2]))
        says = [f"{damaged}: pairs, light, 5 is missing, which {one} has (2 images in all)"]
        fails("compare", one, damaged, says=says)
        damaged.write_text("".join([*lines, lines[1]]))
        fails("compare", damaged, one, says=[f"{damaged}: pairs, light, 0 is there twice (1 image in all)"])
        fails("compare", one, tmp_path / "none.csv", says=["none.csv: cannot be read"])


def test_explained_metrics_say_their_count(run, pairs):
    code, out, _ = run("explain-metrics", pairs / "light", pairs / "clean")
    assert code == 2  # images of 16 x 24 are too small for the protocol sr
    for seed in range(2):
        for name, more in (("a", 5), ("b", 0)):
            write_image(pairs / name / f"{seed}.png", np.full((24, 30, 3), 50 * seed + more, np.uint8))
    code, out, _ = run("explain-metrics", pairs / "a", pairs / "b")
    assert code == 0
    assert "2 images. Means of per-image values" in " ".join(out.split())
