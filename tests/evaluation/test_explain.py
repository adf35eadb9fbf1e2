"""Every protocol side by side: the numbers are the protocols', the reasons are true and complete."""

import math
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from manas.commands.main import app
from manas.data.images import write_image
from manas.errors import ManasError
from manas.evaluation.explain import OPENCV, explain, table
from manas.evaluation.protocols import PROTOCOLS


def picture(seed):
    return np.random.default_rng(seed).integers(20, 220, (24, 40, 3), dtype=np.uint8)


def pairs_in(folder):
    """Two pairs by name in two formats, in folders a and b; pixels of a are brighter by ten and by twenty."""
    for seed, name in enumerate(("one", "two")):
        write_image(folder / "b" / f"{name}.png", picture(seed))
        write_image(folder / "a" / f"{name}.bmp", picture(seed) + np.uint8(10 * (seed + 1)))
    return folder / "a", folder / "b"


def by_name(explanations):
    return {each.protocol.name: each for each in explanations}


def means(explanation):
    return {name: spread.mean for name, spread in explanation.scores.items()}


def test_every_protocol_has_a_row_and_a_reason():
    assert all(protocol.reason for protocol in (*PROTOCOLS.values(), OPENCV))
    assert OPENCV.name not in PROTOCOLS


def test_two_images_are_scored_by_every_protocol(tmp_path):
    a, b = pairs_in(tmp_path)
    explained = explain(a / "one.bmp", b / "one.png")
    assert [each.protocol for each in explained] == [*PROTOCOLS.values(), OPENCV]
    for each, row in zip(explained, table(explained).rows, strict=True):
        assert means(each) == each.protocol.measure(picture(0) + np.uint8(10), picture(0))
        assert (row[0], row[-1]) == (each.protocol.name, each.protocol.reason)
        assert each.scores["psnr"].left_out == 0


def test_the_loss_that_is_printed_is_the_loss(tmp_path):
    a, b = pairs_in(tmp_path)
    rows = by_name(explain(a, b))
    lost = means(rows["derain"])["psnr"] - means(rows[OPENCV.name])["psnr"]
    printed = float(re.search(r"= ([\d.]+) dB less", OPENCV.reason)[1])
    assert lost == pytest.approx(printed, abs=0.005)


def test_folders_are_paired_by_name_and_averaged(tmp_path):
    a, b = pairs_in(tmp_path)
    rows = by_name(explain(a, b))
    # ten levels in every channel are 28.13 dB in RGB, twenty are 22.11 dB
    expected = np.mean([20 * math.log10(255 / error) for error in (10, 20)])
    assert means(rows["rgb"])["psnr"] == pytest.approx(expected)
    alone = [means(by_name(explain(a / f"{name}.bmp", b / f"{name}.png"))["sr"]) for name in ("one", "two")]
    assert means(rows["sr"]) == pytest.approx(
        {name: np.mean([each[name] for each in alone]) for name in alone[0]}
    )


def test_identical_images_are_counted_and_left_out(tmp_path):
    a, b = pairs_in(tmp_path)
    (a / "two.bmp").unlink()
    write_image(a / "two.png", picture(1))
    rgb = by_name(explain(a, b))["rgb"]
    assert rgb.scores["psnr"].left_out == 1
    assert means(rgb)["psnr"] == pytest.approx(20 * math.log10(25.5))
    assert means(by_name(explain(b, b))["rgb"]) == {"psnr": math.inf, "ssim": pytest.approx(1)}
    assert table([rgb]).rows[0][:2] == ("rgb", "28.13 dB, 1 identical left out")


class TestBadInput:
    def test_a_file_without_partner(self, tmp_path):
        a, b = pairs_in(tmp_path)
        write_image(b / "three.png", picture(3))
        with pytest.raises(ManasError, match=r"b/three\.png has no partner in \S+a \(1 image in all"):
            explain(a, b)
        (b / "three.png").unlink()
        (b / "one.png").unlink()
        (b / "two.png").unlink()
        write_image(b / "three.png", picture(3))
        write_image(a / "three.png", picture(3))
        with pytest.raises(ManasError, match=r"a/one\.bmp has no partner in \S+b \(2 images in all"):
            explain(a, b)

    def test_a_folder_and_a_file(self, tmp_path):
        a, b = pairs_in(tmp_path)
        for given in ((a, b / "one.png"), (a / "one.bmp", b)):
            with pytest.raises(ManasError, match="give two images or two folders"):
                explain(*given)

    def test_errors_name_the_file(self, tmp_path):
        a, b = pairs_in(tmp_path)
        write_image(a / "two.bmp", picture(1)[:20])
        with pytest.raises(ManasError, match=r"two\.bmp: the restored image is 40 x 20 pixels"):
            explain(a, b)
        with pytest.raises(ManasError, match=r"none\.png: no such file"):
            explain(a / "none.png", b / "one.png")


def test_the_command_prints_numbers_and_reasons(tmp_path):
    a, b = pairs_in(tmp_path)
    result = CliRunner().invoke(app, ["explain-metrics", str(a), str(b)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for each in explain(a, b):
        assert re.search(
            rf"{re.escape(each.protocol.name)} .* {means(each)['psnr']:.2f} dB .* {means(each)['ssim']:.4f}",
            result.output,
        )
    words = " ".join(result.output.split())
    assert "1.32 dB less" in words
    assert "truncated to 8 bit" in words
    assert "2 images. Means of per-image values" in words
