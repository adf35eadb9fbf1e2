"""A measure of one's own is one entry of a protocol: whatever shows scores shows it, the right way up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from manas.data.images import write_image
from manas.errors import ManasError
from manas.evaluation.comparison import compare
from manas.evaluation.evaluate import evaluate
from manas.evaluation.explain import explain
from manas.evaluation.explain import table as explained_table
from manas.evaluation.measures import PSNR, SSIM, Measure
from manas.evaluation.metrics import luma
from manas.evaluation.protocols import PROTOCOLS, Protocol
from manas.evaluation.results import Evaluation
from manas.evaluation.scenes import DegradedScene
from manas.reporting.gallery import Worst, draw_gallery, row_of


def absolute_error(image, reference):
    return (image - reference).abs().mean(dim=(1, 2, 3))


MAE = Measure("mae", "MAE", absolute_error, unit="grey levels", higher_is_better=False, digits=1)
REVERSED = replace(MAE, name="more", label="MORE", higher_is_better=True)


def picture(seed, more=0):
    return np.random.default_rng(seed).integers(20, 180, (24, 40, 3), dtype=np.uint8) + np.uint8(more)


SCENES = [
    DegradedScene("rain", level, f"{seed}", picture(seed, more), picture(seed))
    for level, more in (("light", 20), ("heavy", 50))
    for seed in range(6)
]


def by(protocol, less, model=""):
    """An evaluation of a model that makes light images darker by `less`, and heavy ones by twice that."""
    evaluation = evaluate(
        lambda image: image - np.uint8(less * (1 + (image.max() > 210))), SCENES, protocol=protocol
    )
    return replace(evaluation, model=model)


@pytest.fixture
def third(monkeypatch):
    """A protocol with the error behind PSNR and SSIM."""
    protocol = Protocol(
        "mine", "grey levels of RGB", lambda pixels: pixels, (PSNR, SSIM, MAE), reason="it is mine"
    )
    monkeypatch.setitem(PROTOCOLS, "mine", protocol)
    return "mine"


@pytest.fixture
def error_first(monkeypatch):
    """A protocol with the error before another measure, by which all is the other way round."""
    monkeypatch.setitem(PROTOCOLS, "error", Protocol("error", "an error", luma, (MAE, REVERSED)))
    return "error"


def cells(table, heading):
    """The column under the last heading of that name."""
    place = len(table.headings) - 1 - table.headings[::-1].index(heading)
    return [row[place] for row in table.rows]


class TestEverythingShowsIt:
    def test_an_evaluation_and_its_summary(self, third):
        evaluation = by(third, 15)
        assert list(evaluation.images[0].restored) == ["psnr", "ssim", "mae"]
        light = evaluation.summary("rain", "light")
        assert light.degraded["mae"] == pytest.approx((20, 0, 20, 20, 0))
        assert light.restored["mae"] == pytest.approx((5, 0, 5, 5, 0))

    def test_the_table(self, third):
        table = by(third, 15).table()
        assert table.headings[-5:] == ("MAE degraded", "restored", "min", "max", "worst image")
        assert cells(table, "MAE degraded") == ["20.0", "50.0", "35.0"]
        assert cells(table, "restored") == ["5.0 ± 0.0", "20.0 ± 0.0", "12.5 ± 7.5"]
        assert "deviation, PSNR in dB, MAE in grey levels (lower is better)" in table.caption
        assert {len(row) for row in table.rows} == {len(table.headings)}

    def test_markdown_and_latex(self, third):
        for text in (by(third, 15).to_markdown(), by(third, 15).to_latex()):
            for part in ("MAE degraded", "12.5", "MAE in grey levels (lower is better)"):
                assert part in text

    def test_the_file_there_and_back(self, third, tmp_path):
        evaluation, file = by(third, 15, "model"), tmp_path / "scores.csv"
        file.write_text(evaluation.to_csv())
        assert file.read_text().splitlines()[0].endswith(",degraded_mae,restored_mae,data,model")
        again = Evaluation.from_csv(file)
        assert again.images[7].restored == pytest.approx(evaluation.images[7].restored, abs=5.1e-7)
        assert again.measures == (PSNR, SSIM, MAE)
        assert again.table() == evaluation.table()
        file.write_text(file.read_text().replace("5.000000", "low"))
        with pytest.raises(ManasError, match="line 2: the scores restored are not 3 numbers"):
            Evaluation.from_csv(file)

    def test_the_comparison(self, third):
        worse, better = by(third, 10, "worse"), by(third, 15, "better")
        for one, other, best in ((worse, better, "B"), (better, worse, "A")):
            comparison = compare(one, other)
            assert {each.better for each in comparison.differences if each.measure.name != "ssim"} == {best}
            assert cells(comparison.table(), "measure") == ["PSNR", "SSIM", "MAE"] * 3
            assert "of MAE the lower is better" in comparison.table().caption
        light = compare(worse, better).table().rows[2]
        assert light[4:] == ("10.0", "5.0", "-5.0", "-5.0 to -5.0", "B is better, more than chance")

    def test_the_gallery(self, third):
        seen = []
        evaluate(lambda image: image - np.uint8(15), SCENES[:1], protocol=third, watch=seen.append)
        before, after, _ = row_of(seen[0]).notes
        assert before.endswith(", MAE 20.0 grey levels")
        assert after.endswith(", MAE 5.0 grey levels")

    def test_explain_metrics(self, third, tmp_path):
        for name, more in (("a", 7), ("b", 0)):
            write_image(tmp_path / f"{name}.png", picture(0, more))
        table = explained_table(explain(tmp_path / "a.png", tmp_path / "b.png"))
        assert table.headings == ("protocol", "PSNR", "SSIM", "MAE", "why it differs from derain")
        found = {row[0]: row for row in table.rows}
        assert found[third][3:] == ("7.0 grey levels", "it is mine")
        assert found["derain"][3] == ""

    def test_the_commands(self, third, run, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        for seed in range(6):
            for kind, more in (("clean", 0), ("light", 20), ("one", 10), ("other", 5)):
                write_image(tmp_path / kind / f"{seed}.png", picture(seed, more))
        models = [part for name in ("one", "other") for part in ("--restored", tmp_path / name)]
        code, out, _ = run("evaluate", tmp_path / "clean", *models, "--protocol", third)
        assert code == 0
        assert "MAE 6 6 10.0 5.0 -5.0 -5.0 to -5.0 B is better" in " ".join(out.split())
        for name in ("one", "other"):
            (tmp_path / name).rename(tmp_path.parent / name)
        code, out, _ = run("data", "check", tmp_path, "--protocol", third)
        assert code == 0
        words = " ".join(out.split())
        assert "PSNR dB SSIM MAE grey levels light 6" in words
        assert "20.0" in words


class TestLowerIsBetter:
    """The first measure of a protocol decides which images are the worst."""

    def test_the_worst_has_the_greatest_error(self, error_first):
        evaluation = by(error_first, 15)
        assert [image.level for image in evaluation.worst(7)] == ["heavy"] * 6 + ["light"]
        assert evaluation.summary().worst == evaluation.worst(1)[0]
        assert cells(evaluation.table(), "worst image")[-1].startswith("heavy, ")

    def test_a_gallery_of_the_worst(self, error_first, tmp_path, monkeypatch):
        titles = []
        monkeypatch.setattr(
            "manas.reporting.gallery.before_after",
            lambda rows, path, **options: titles.append(options["title"]),
        )
        worst = Worst(2)
        evaluation = evaluate(lambda image: image - np.uint8(15), SCENES, protocol=error_first, watch=worst)
        assert [judged.scene.level for judged in worst.kept] == ["heavy"] * 2
        draw_gallery(
            worst, [replace(evaluation, model="a"), replace(evaluation, model="b")], tmp_path / "g.png"
        )
        assert titles == ["protocol error: the 2 worst of 12 images by MAE of a"]

    def test_inputs_are_compared_by_it(self, error_first):
        evaluation = by(error_first, 15, "a")
        image, degraded = evaluation.images[0], evaluation.images[0].degraded
        for name, more in (("mae", 0.009), ("mae", 0.1), ("more", 9)):
            changed = replace(image, degraded=degraded | {name: degraded[name] + more})
            other = replace(evaluation, images=(changed, *evaluation.images[1:]), model="b")
            if more != 0.1:
                compare(evaluation, other)
                continue
            with pytest.raises(ManasError, match="the input has 17.2 grey levels in a and 17.3 grey levels"):
                compare(evaluation, other)

    def test_infinite_is_perfect(self):
        """Of the logarithm of an error, an identical image has minus infinity."""
        assert MAE.worth(-math.inf) > MAE.worth(-5) > MAE.worth(3)
        assert PSNR.worth(math.inf) > PSNR.worth(3) > PSNR.worth(-5)


class TestEntries:
    def test_a_file_from_before_a_measure_was_entered_is_read(self, monkeypatch, tmp_path):
        (tmp_path / "old.csv").write_text(by("rgb", 10, "old").to_csv())
        monkeypatch.setitem(PROTOCOLS, "rgb", replace(PROTOCOLS["rgb"], measures=(MAE, PSNR, SSIM)))
        old, new = Evaluation.from_csv(tmp_path / "old.csv"), by("rgb", 15, "new")
        assert old.measures == (PSNR, SSIM)
        assert new.measures == (MAE, PSNR, SSIM)
        assert cells(compare(old, new).table(), "measure") == ["PSNR", "SSIM"] * 3
        assert "MAE" not in old.to_markdown() + old.to_csv()

    def test_measures_that_nobody_shares(self, monkeypatch):
        old = by("rgb", 10, "old")
        monkeypatch.setitem(PROTOCOLS, "rgb", replace(PROTOCOLS["rgb"], measures=(MAE,)))
        with pytest.raises(ManasError, match="old and new have no measure in common: score both again"):
            compare(old, by("rgb", 15, "new"))

    def test_a_file_by_a_protocol_that_is_not_there(self, third, tmp_path, monkeypatch):
        (tmp_path / "scores.csv").write_text(by(third, 10).to_csv())
        monkeypatch.delitem(PROTOCOLS, third)
        with pytest.raises(ManasError, match=r"scores\.csv: no evaluation protocol is called 'mine'"):
            Evaluation.from_csv(tmp_path / "scores.csv")

    @pytest.mark.parametrize("measures", [(), (PSNR, SSIM, replace(MAE, name="psnr"))])
    def test_a_protocol_has_measures_of_different_names(self, measures):
        with pytest.raises(
            ManasError, match="'mine' has the measures (none|psnr, ssim, psnr): give one at least"
        ):
            replace(PROTOCOLS["derain"], name="mine", measures=measures)

    @pytest.mark.parametrize("function", [lambda a, b: (a - b).mean(), lambda a, b: a - b])
    def test_a_function_gives_one_value_an_image(self, function):
        planes = torch.zeros(3, 1, 4, 4)
        assert MAE.values(planes, planes) == [0, 0, 0]
        with pytest.raises(
            ManasError, match=r"'mae' gave values of shape .* must give one value an image, \(3,\)"
        ):
            replace(MAE, function=function).values(planes, planes)

    def test_texts(self):
        assert (MAE.text(1.25), MAE.signed(0.5), MAE.with_unit(2)) == ("1.2", "+0.5", "2.0 grey levels")
        assert [each.caption(0.5) for each in (PSNR, SSIM, MAE)] == [
            "0.50 dB",
            "SSIM 0.500",
            "MAE 0.5 grey levels",
        ]
        legends = ("PSNR in dB", "", "MAE in grey levels (lower is better)")
        assert tuple(each.legend for each in (PSNR, SSIM, MAE)) == legends
