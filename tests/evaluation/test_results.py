"""What is said of an evaluation: means by hand, tables, and the file of scores, there and back."""

import csv
import io
import math
from statistics import pstdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manas.errors import ManasError
from manas.evaluation.results import Evaluation, score_table
from manas.evaluation.scores import ImageScores
from manas.evaluation.summary import Spread


def by_name(psnr, ssim):
    return {"psnr": psnr, "ssim": ssim}


def scored(group, level, name, before, after):
    return ImageScores(group, level, name, by_name(*before), by_name(*after))


SCORES = Evaluation(
    "derain",
    (
        scored("rain", "light", "a", (20.0, 0.5), (30.0, 0.7)),
        scored("rain", "light", "b", (24.0, 0.7), (math.inf, 1.0)),
        scored("rain", "heavy", "a", (10.0, 0.3), (12.0, 0.5)),
        scored("snow", "light", "a", (15.0, 0.4), (14.0, 0.3)),
    ),
    "a small set",
    "model.safetensors",
)
FILES = Evaluation("rgb", tuple(ImageScores("set", "", name, None, by_name(20.5, 0.5)) for name in "ab"))


class TestSummary:
    def test_means_are_of_per_image_values(self):
        rain = SCORES.summary("rain")
        assert rain.images == 3
        assert rain.degraded["psnr"] == pytest.approx((18, pstdev([20, 24, 10]), 10, 24, 0))
        assert rain.degraded["ssim"] == pytest.approx((0.5, pstdev([0.5, 0.7, 0.3]), 0.3, 0.7, 0))
        assert rain.restored["ssim"].mean == pytest.approx(2.2 / 3)
        assert SCORES.summary().images == 4
        assert SCORES.summary("rain", "heavy").restored["psnr"] == (12, 0, 12, 12, 0)
        assert SCORES.summary("rain").worst.level == "heavy"
        assert SCORES.summary("rain", "light").worst.name == "a"

    def test_identical_images_are_counted_and_left_out_of_the_psnr(self):
        light = SCORES.summary("rain", "light")
        assert light.restored["psnr"] == (30, 0, 30, 30, 1)
        assert light.restored["ssim"].left_out == 0
        alone = Evaluation("derain", SCORES.images[1:2]).summary("rain")
        assert alone.restored["psnr"] == (math.inf, 0, math.inf, math.inf, 1)

    def test_what_was_not_degraded_has_no_scores_of_it(self):
        assert FILES.summary("set").degraded is None

    def test_what_is_not_there_is_an_error(self):
        with pytest.raises(
            ManasError, match="group rain, level medium .* rain, light, rain, heavy, snow, light"
        ):
            SCORES.summary("rain", "medium")

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
    def test_spread_is_that_of_numpy(self, values):
        expected = (np.mean(values), np.std(values), min(values), max(values), 0)
        assert Spread.of(values) == pytest.approx(expected, abs=1e-9)
        assert Spread.of([*values, math.inf]) == pytest.approx((*expected[:-1], 1), abs=1e-9)

    def test_the_worst_come_first(self):
        assert [image.restored["psnr"] for image in SCORES.worst(3)] == [12, 14, 30]
        assert SCORES.worst(1) == [SCORES.summary().worst]
        assert len(SCORES.worst(9)) == 4


class TestTable:
    def test_it_has_a_row_a_level_and_one_a_group_of_several(self):
        table = SCORES.table()
        assert [row[0] for row in table.rows] == ["rain, light", "rain, heavy", "rain", "snow, light"]
        cells = (
            "1",
            "10.00",
            "12.00 ± 0.00",
            "12.00",
            "12.00",
            "0.3000",
            "0.5000 ± 0.0000",
            "0.5000",
            "0.5000",
        )
        assert table.rows[1] == ("rain, heavy", *cells, "a")
        assert table.rows[2][1:5] == ("3", "18.00", "21.00 ± 9.00", "12.00")
        assert table.rows[2][-1] == "heavy, a"
        assert {len(row) for row in table.rows} == {len(table.headings)}

    def test_the_caption_says_data_count_and_protocol(self):
        assert SCORES.table().caption == (
            "a small set: 4 images, protocol derain; means of per-image values ± standard deviation, "
            "PSNR in dB; without a finite PSNR, and left out of it: 1 identical to their original"
        )
        assert FILES.table().caption.startswith("2 images, protocol rgb; ")
        assert "finite" not in FILES.table().caption
        for text in (SCORES.to_markdown(), SCORES.to_latex()):
            assert "4 images, protocol derain" in text

    def test_restored_files_alone(self):
        row = FILES.table().rows[0]
        assert row[:3] == ("set", "2", "")
        assert row[6] == ""

    def test_several_models_stand_below_each_other(self):
        other = Evaluation("derain", SCORES.images[::-1][::-1], "a small set", "other")
        table = score_table([SCORES, other])
        assert table.headings[:3] == ("", "model", "images")
        assert [row[:2] for row in table.rows[:3]] == [
            ("rain, light", "model.safetensors"),
            ("rain, light", "other"),
            ("rain, heavy", "model.safetensors"),
        ]


class TestFile:
    def test_it_has_a_line_an_image(self):
        lines = list(csv.DictReader(io.StringIO(SCORES.to_csv())))
        assert len(lines) == 4
        assert lines[0] == {
            "protocol": "derain",
            "group": "rain",
            "level": "light",
            "name": "a",
            "degraded_psnr": "20.000000",
            "restored_psnr": "30.000000",
            "degraded_ssim": "0.500000",
            "restored_ssim": "0.700000",
            "data": "a small set",
            "model": "model.safetensors",
        }
        assert float(lines[1]["restored_psnr"]) == math.inf

    @pytest.mark.parametrize("evaluation", [SCORES, FILES])
    def test_there_and_back(self, evaluation, tmp_path):
        file = tmp_path / "scores.csv"
        file.write_text(evaluation.to_csv(), encoding="utf-8")
        assert Evaluation.from_csv(file) == evaluation

    @given(
        name=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1),
        psnr=st.floats(0, 100) | st.just(math.inf),
        ssim=st.floats(-1, 1),
    )
    def test_any_name_and_score(self, tmp_path_factory, name, psnr, ssim):
        file = tmp_path_factory.mktemp("csv") / "scores.csv"
        evaluation = Evaluation("rgb", (scored("g", "l", name, (1, 1), (psnr, ssim)),), name, name)
        file.write_text(evaluation.to_csv(), encoding="utf-8", newline="")
        found = Evaluation.from_csv(file)
        assert (found.data, found.model, found.images[0].name) == (name, name, name)
        assert found.images[0].restored == pytest.approx(by_name(psnr, ssim), abs=5.1e-7)
        assert found.to_csv() == evaluation.to_csv()

    def test_a_file_without_data_and_model(self, tmp_path):
        (tmp_path / "scores.csv").write_text(
            "protocol,group,level,name,degraded_psnr,restored_psnr,degraded_ssim,restored_ssim\n"
            "derain,rain,light,a,20,30,.5,.7\n"
        )
        assert Evaluation.from_csv(tmp_path / "scores.csv") == Evaluation("derain", SCORES.images[:1])

    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (lambda text: "", "no scores in it; give a file that manas evaluate --csv wrote"),
            (lambda text: text.splitlines()[0], "no scores in it"),
            (lambda text: text.replace("restored_ssim", "ssim"), "no column 'restored_ssim'"),
            (lambda text: text.replace("30.000000", "high"), "line 2: the scores restored are not two numbers"),
            (
                lambda text: text.replace(",0.300000,a small set,model.safetensors", ""),
                "2 in the column 'data'",
            ),
            (lambda text: text.replace("14.000000", ""), "line 5: the scores restored"),
            (lambda text: text.replace("derain", "rgb", 1), "2 in the column 'protocol': rgb, derain"),
            (lambda text: text.replace("model.saf", "2.saf", 1), "2 in the column 'model'"),
            (lambda text: text + '"', "not a CSV file"),
        ],
    )
    def test_what_is_no_file_of_scores_is_refused(self, damage, says, tmp_path):
        file = tmp_path / "scores.csv"
        file.write_text(damage(SCORES.to_csv()))
        with pytest.raises(ManasError, match=f"scores.csv.*{says}"):
            Evaluation.from_csv(file)

    def test_no_file(self, tmp_path):
        with pytest.raises(ManasError, match="cannot be read"):
            Evaluation.from_csv(tmp_path / "none.csv")
        (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ManasError, match="not a CSV file"):
            Evaluation.from_csv(tmp_path / "bytes.csv")
