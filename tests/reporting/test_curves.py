"""The curves of a run: they are what was tracked, in its place, and can be read."""

import json
from dataclasses import replace
from itertools import combinations, pairwise
from math import inf, nan

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from manas.cost.table import CostTable, ForkCost
from manas.reporting.drawing.sheet import BLUE, VERMILION
from manas.reporting.report import curves, search_curves
from manas.reporting.report.panels import (
    LINE,
    POINTS,
    Name,
    Shortest,
    as_svg,
    condensed,
    curve,
    name_ends,
    panels,
    scale,
    spread,
    style,
)
from manas.reporting.report.record import Record, Series
from manas.reporting.report.sections import CURVES

STEPS, EPOCHS = 4, 5
COLUMNS, GATES = "parallel+fusion", "none+..+cbam_9"
NINE = [
    *("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "sep_conv_3x3_spatial"),
    *("dil_conv_3x3_spatial", "channel_attention", "channel_attention_v2", "cbam"),
]


def record_of(folder, lines, *, epoch=None, method="gradient", **config):
    """A run directory with these numbers."""
    space = {"kind": "multi_scale_attentive"}
    config = {"steps": STEPS, "method": {"kind": method}, "space": space, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if epoch is not None:
        (folder / "genotype.json").write_text(json.dumps({"provenance": {"epoch": epoch}}))
    return Record(folder)


def write_costs(record, metric, cheapest, dearest):
    """A cost table with one fork."""
    table = CostTable(
        0.0, ("fork",), {"fork": ForkCost(("a", "b"), torch.tensor([cheapest, dearest]), ((), ()))}
    )
    (record.run / "cost.json").write_text(replace(table, origin={"metric": metric}).to_json())


def a_step(step):
    line = {"step": step, "weights/gradient": 1.0, "steps_left_out": 0}
    line |= {"weights/global/mse": 1 / step, "weights/global/ssim": 1.0 - step / 100}
    if step > STEPS:
        line |= {"alphas/global/mse": 2 / step, "alphas/complexity": 0.25, "alphas/gradient": 1.0}
        line |= {"alphas/multiplier": step / 10}
    return line


def an_epoch(epoch):
    relaxed = 20.0 + epoch
    line = {"step": (epoch + 1) * STEPS, "validation/psnr_relaxed": relaxed}
    line |= {"validation/psnr_one_hot": relaxed - 1.5, "validation/discretisation_gap": 1.5}
    line |= {"health/skip_share": epoch / 10, "health/zero_share": 0.05, "health/cost": 1e9 - epoch * 1e7}
    line |= {"health/eigenvalue": 10.0**epoch, f"entropy/{COLUMNS}": 0.5, f"entropy/{GATES}": 0.9 - epoch / 10}
    line |= {f"shares/{COLUMNS}/parallel": 0.3, f"shares/{COLUMNS}/fusion": 0.7}
    shares = np.linspace(1, 2, 9) ** epoch
    line |= {f"shares/{GATES}/{name}": s for name, s in zip(NINE, shares / shares.sum(), strict=True)}
    return line | ({"health/alpha_gradient": 0.1} if epoch else {})


SEARCH = sorted(
    [*(a_step(step) for step in range(1, STEPS * EPOCHS + 1)), *map(an_epoch, range(EPOCHS))],
    key=lambda line: line["step"],
)
TASKS = [
    {
        "step": (e + 1) * STEPS,
        "validation/psnr": 25.0 + e,
        "validation/psnr/derain": 26.0,
        "validation/psnr/desnow": 24.0,
    }
    for e in range(EPOCHS)
]
TRAINING = [
    {"step": s, "training/global/l1": 1 / s, "training/local/derain": 2 / s, "rate": 1} for s in range(1, 21)
]
CANDIDATES = [{"step": s, "weights/global/mse": 1 / s} for s in range(1, 13)]
CANDIDATES += [
    {"step": step, "validation/psnr_of_a_candidate": score}
    for step, score in ((5, 20.0), (9, 23.0), (12, 21.0))
]


@pytest.fixture
def searched(tmp_path):
    return record_of(tmp_path, SEARCH, epoch=2, budget={"macs": 0.98e9, "parameters": None})


@pytest.fixture(autouse=True)
def _style():
    with style():
        yield


def lines_of(axes):
    """The lines that are curves, by colour."""
    found = [line for line in axes.lines if line.get_transform() is not axes.transAxes]
    return {to_hex(line.get_color()): line for line in found if line.get_linewidth() > 1}


def values_of(axes):
    return {colour: (list(line.get_xdata()), list(line.get_ydata())) for colour, line in lines_of(axes).items()}


def words_of(axes):
    return [text.get_text() for text in axes.texts]


def titles_of(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


EPOCH = list(range(EPOCHS))


def test_relaxed_and_one_hot_by_epoch_from_zero(searched):
    _, caption, figure = curves.relaxed_and_one_hot(searched)
    (axes,) = figure.axes
    relaxed = [20.0 + e for e in EPOCH]
    ring, found = axes.lines[-1], values_of(axes)
    assert found[BLUE] == (EPOCH, relaxed)
    assert found[VERMILION] == (EPOCH, [psnr - 1.5 for psnr in relaxed])
    assert set(words_of(axes)) == {"relaxed", "one-hot"}
    assert axes.get_xlabel() == "epoch"
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [20.5])
    assert "relaxed 24.00 dB, one-hot 22.50 dB, a gap (shaded) of 1.50 dB" in caption
    assert "epoch 2" in caption
    (shade,) = axes.collections
    corners = {tuple(corner) for corner in shade.get_paths()[0].vertices}
    assert {(e, y) for e in EPOCH for y in (20.0 + e, 18.5 + e)} <= corners


def test_the_input_is_a_level_beside_the_curves(searched):
    record = Record(searched.run)
    record.metrics["validation/input"] = Series(np.array([0, 10]), np.array([15.25, 15.25]))
    _, caption, figure = curves.relaxed_and_one_hot(record)
    (axes,) = figure.axes
    assert "; the input has 15.25 dB. " in caption
    assert "input" in words_of(axes)
    assert any(list(line.get_ydata()) == [15.25, 15.25] for line in axes.lines)


def test_names_have_the_colours_of_their_lines(searched):
    (axes,) = curves.relaxed_and_one_hot(searched).figure.axes
    assert {text.get_text(): to_hex(text.get_color()) for text in axes.texts} == {
        "relaxed": BLUE,
        "one-hot": VERMILION,
    }


def test_without_a_known_epoch_there_is_no_ring(tmp_path):
    for epoch in (None, 99, "two"):
        title, caption, figure = curves.relaxed_and_one_hot(record_of(tmp_path, SEARCH, epoch=epoch))
        assert "ring" not in caption
        assert len(figure.axes[0].lines) == 2


def test_without_a_configuration_places_are_steps(tmp_path):
    record = record_of(tmp_path, SEARCH, epoch=2, steps=None)
    (axes,) = curves.relaxed_and_one_hot(record).figure.axes
    assert axes.get_xlabel() == "step"
    assert values_of(axes)[BLUE][0] == [(e + 1) * STEPS for e in EPOCH]


def test_each_loss_has_a_panel_and_its_owners(searched):
    figure = curves.losses(searched).figure
    assert titles_of(figure) == ["global/mse", "global/ssim", "complexity"]
    both, weights, alphas = figure.axes
    steps = list(range(1, STEPS * EPOCHS + 1))
    assert values_of(both) == {
        BLUE: (steps, [1 / s for s in steps]),
        VERMILION: (steps[STEPS:], [2 / s for s in steps[STEPS:]]),
    }
    assert [words_of(axes) for axes in figure.axes] == [["weights", "alphas"], ["weights"], ["alphas"]]
    assert both.get_yscale() == "log"
    assert weights.get_yscale() == alphas.get_yscale() == "linear"
    assert {axes.get_xlim() for axes in figure.axes} == {(0, STEPS * EPOCHS)}


def test_steps_that_were_left_out_are_said(tmp_path):
    assert "left out" not in curves.losses(record_of(tmp_path, SEARCH)).caption
    lines = [*SEARCH, {"step": 20, "steps_left_out": 3}]
    assert "gradient was broken: 3." in curves.losses(record_of(tmp_path, lines)).caption


def test_losses_of_a_retraining(tmp_path):
    figure = curves.losses(record_of(tmp_path, TRAINING)).figure
    assert titles_of(figure) == ["global/l1", "local/derain"]
    assert [words_of(axes) for axes in figure.axes] == [[], []]


def test_validation_by_task(tmp_path):
    _, caption, figure = curves.by_task(record_of(tmp_path, TASKS, method=None))
    assert set(words_of(figure.axes[0])) == {"all", "derain", "desnow"}
    assert values_of(figure.axes[0])[BLUE] == (EPOCH, [25.0 + e for e in EPOCH])
    assert "all 29.00 dB, derain 26.00 dB, desnow 24.00 dB" in caption
    alone = [{key: value for key, value in line.items() if "desnow" not in key} for line in TASKS]
    assert words_of(curves.by_task(record_of(tmp_path, alone)).figure.axes[0]) == ["derain"]


def test_candidates_and_their_losses_stand_apart(tmp_path):
    record = record_of(tmp_path, CANDIDATES, method="random")
    _, caption, figure = curves.of_candidates(record)
    dots = {tuple(line.get_xdata()): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert dots[(0, 1, 2)] == [20.0, 23.0, 21.0]
    assert dots[(1,)] == [23.0]
    assert "best 23.00 dB (candidate 1), median 21.00 dB, worst 20.00 dB" in caption
    (axes,) = curves.losses(record).figure.axes
    parts = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() > 1]
    assert parts == [[1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12]]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() < 1] == [5, 9]


def test_decisions_between_nothing_and_all(searched):
    _, caption, figure = search_curves.decisions(searched)
    entropy, chosen = figure.axes
    assert values_of(entropy) == {
        BLUE: (EPOCH, [0.5] * 5),
        VERMILION: (EPOCH, [pytest.approx(0.9 - e / 10) for e in EPOCH]),
    }
    assert values_of(chosen)[BLUE] == (EPOCH, [e / 10 for e in EPOCH])
    assert set(words_of(chosen)) == {"skip", "zero"}
    assert all(axes.get_ylim()[0] <= 0 and axes.get_ylim()[1] >= 1 for axes in figure.axes)
    assert f"entropy of {GATES} 0.50" in caption
    assert "skip chosen by 40%" in caption


def test_the_share_of_zeros_is_found_under_its_former_name(tmp_path):
    lines = [{"step": 1, "health/none_share": 0.25}]
    _, caption, _ = search_curves.decisions(record_of(tmp_path, lines))
    assert "zero chosen by 25%" in caption


def test_shares_are_stacked_to_one_in_the_order_of_the_candidates(searched):
    figure = search_curves.shares(searched).figure
    assert titles_of(figure) == [COLUMNS, GATES]
    columns, gates = figure.axes
    assert [list(line.get_ydata()) for line in columns.lines[:2]] == [[0.3] * 5, [1.0] * 5]
    middles = {text.get_text(): text.get_position()[1] for text in columns.texts}
    assert middles == {"parallel": pytest.approx(0.15), "fusion": pytest.approx(0.65)}
    tops = np.array([line.get_ydata() for line in gates.lines[:9]])
    expected = np.cumsum([[line[f"shares/{GATES}/{n}"] for line in map(an_epoch, EPOCH)] for n in NINE], axis=0)
    np.testing.assert_allclose(tops, expected)
    heights = {text.get_text(): text.get_position()[1] for text in gates.texts}
    assert list(heights) == [
        "none",
        "skip",
        "sep 3x3",
        "dil 3x3",
        "sep spatial",
        "dil spatial",
        "CA",
        "CA v2",
        "CBAM",
    ]
    assert list(heights.values()) == sorted(heights.values())


def test_bands_have_the_colours_of_the_drawing(searched):
    columns, gates = search_curves.shares(searched).figure.axes
    assert [to_hex(band.get_facecolor()[0]) for band in columns.collections] == ["#d9eaf6", "#fbe3d4"]
    drawn = [to_hex(band.get_facecolor()[0]) for band in gates.collections]
    assert drawn[2:] == [searched.drawing.sign(name).colour for name in NINE[2:]]


@pytest.mark.parametrize("space", [{"kind": "not_installed"}, {"kind": "received.code:Space"}, "manas", None])
def test_candidates_of_a_space_that_cannot_be_found_have_their_own_names(space, tmp_path):
    _, gates = search_curves.shares(record_of(tmp_path, [an_epoch(0)], space=space)).figure.axes
    assert "cbam" in {text.get_text() for text in gates.texts}


def test_a_single_epoch_can_be_seen(tmp_path):
    record = record_of(tmp_path, [an_epoch(0)])
    for draw in (curves.relaxed_and_one_hot, search_curves.decisions, search_curves.sharpness):
        for axes in draw(record).figure.axes:
            assert axes.get_xlim() == (-0.5, 0.5)
            assert all(line.get_marker() == "o" for line in lines_of(axes).values())
    columns, _ = search_curves.shares(record).figure.axes
    assert columns.get_xlim() == (-0.5, 0.5)


def test_panels_of_epochs_share_their_ends(searched):
    figure = search_curves.sharpness(searched).figure
    gradient, eigenvalue = figure.axes
    assert values_of(gradient)[BLUE] == (EPOCH[1:], [0.1] * 4)
    assert gradient.get_xlim() == eigenvalue.get_xlim() == (0, EPOCHS - 1)
    assert eigenvalue.get_yscale() == "log"


def test_cost_against_its_budget(searched):
    write_costs(searched, "macs", 0.5e9, 1.5e9)
    _, caption, figure = search_curves.cost(searched)
    price, multiplier = figure.axes
    assert titles_of(figure) == ["Cost of the derived network, MACs", "Multiplier of the budget"]
    assert values_of(price)[BLUE] == (EPOCH, [1e9 - e * 1e7 for e in EPOCH])
    assert set(words_of(price)) == {"derived", "budget"}
    assert 0.98e9 in [line.get_ydata()[0] for line in price.lines]
    assert multiplier.get_xlabel() == "step"
    assert values_of(multiplier)[BLUE][1] == [step / 10 for step in range(STEPS + 1, STEPS * EPOCHS + 1)]
    assert "has 960.00 M MACs, 98.0% of the budget of 980.00 M MACs" in caption
    assert "cheapest architecture of the space has 500.00 M MACs, the dearest 1.50 G MACs" in caption


def test_cost_without_budget_or_table(tmp_path):
    _, caption, figure = search_curves.cost(record_of(tmp_path, [an_epoch(e) for e in EPOCH]))
    assert titles_of(figure) == ["Cost of the derived network"]
    assert words_of(figure.axes[0]) == ["derived"]
    assert caption == "After the last epoch the derived network has 960.00 M."


def test_latencies_are_in_milliseconds(tmp_path):
    record = record_of(tmp_path, [{**an_epoch(0), "health/cost": 0.0384}], budget={"latency": 0.04})
    write_costs(record, "latency", 0.01, 0.1)
    assert "has 38.40 ms, 96.0% of the budget of 40.00 ms" in search_curves.cost(record).caption


@pytest.mark.parametrize("draw", CURVES)
def test_nothing_is_drawn_of_nothing(draw, tmp_path):
    assert draw(Record(tmp_path)) is None
    keys = {key for line in SEARCH + TASKS + TRAINING + CANDIDATES for key in line} - {"step"}
    assert draw(record_of(tmp_path, [{"step": 1, **dict.fromkeys(keys)}])) is None


def test_no_more_is_drawn_than_there_is(searched, tmp_path):
    drawn = [draw.__name__ for draw in CURVES if draw(searched)]
    assert drawn == ["relaxed_and_one_hot", "losses", "decisions", "shares", "sharpness", "cost"]
    assert [d.__name__ for d in CURVES if d(record_of(tmp_path, TASKS + TRAINING))] == ["by_task", "losses"]
    assert [d.__name__ for d in CURVES if d(record_of(tmp_path, CANDIDATES))] == ["of_candidates", "losses"]


def test_numbers_that_are_not_finite_are_gaps(tmp_path):
    lines = [an_epoch(e) for e in EPOCH]
    lines[1]["validation/psnr_one_hot"] = lines[4]["validation/psnr_relaxed"] = None
    _, caption, figure = curves.relaxed_and_one_hot(record_of(tmp_path, lines))
    found = values_of(figure.axes[0])
    np.testing.assert_array_equal(found[VERMILION][1], [18.5, nan, 20.5, 21.5, 22.5])
    assert set(words_of(figure.axes[0])) == {"relaxed", "one-hot"}
    assert "relaxed nan dB, one-hot 22.50 dB" in caption


def seen(axes):
    """Every text on a panel."""
    yield from axes.texts
    yield from (axes.xaxis.label, axes.yaxis.label, axes._left_title)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        yield from (label for place, label in ticks if low <= place <= high)


def test_all_text_is_within_the_figure_and_apart(searched, tmp_path):
    records = [searched]
    for name, lines in {"tasks": TASKS + TRAINING, "candidates": CANDIDATES}.items():
        (tmp_path / name).mkdir()
        records.append(record_of(tmp_path / name, lines))
    for made in (draw(record) for record in records for draw in CURVES):
        if made:
            made.figure.set_dpi(200)
            made.figure.draw_without_rendering()
            page, renderer = made.figure.bbox, made.figure.canvas.get_renderer()
            boxes = [text.get_window_extent(renderer) for axes in made.figure.axes for text in seen(axes)]
            assert len(boxes) > 5
            assert all(
                page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes
            )
            for one, other in combinations([box for box in boxes if box.width], 2):
                width = min(one.x1, other.x1) - max(one.x0, other.x0)
                height = min(one.y1, other.y1) - max(one.y0, other.y0)
                assert width <= 0 or height <= 0.25 * min(one.height, other.height), made.title


def test_a_figure_is_the_same_text_each_time(searched):
    one, other = (as_svg(search_curves.shares(Record(searched.run)).figure) for _ in range(2))
    assert one == other
    assert ">sep spatial<" in one
    assert "<dc:date>" not in one


# Panels -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-50, 150), max_size=9), st.floats(1, 11))
def test_names_are_apart_within_the_panel_and_in_order(wanted, gap):
    places = spread(sorted(wanted), gap, 100)
    assert len(places) == len(wanted)
    assert all(upper - lower >= gap - 1e-9 for lower, upper in pairwise(places))
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in places)


def test_names_stay_where_there_is_room():
    assert spread([5, 30, 80], 10, 100) == [5, 30, 80]
    assert spread([40, 40], 10, 100) == [35, 45]
    assert spread([100, 100], 10, 100) == [90, 100]
    assert spread([], 10, 100) == []


def test_a_name_that_was_moved_is_led_to_its_line():
    figure, (axes,) = panels(["one"], "epoch", columns=1, right=60)
    axes.set_ylim(0, 1)
    name_ends(axes, [Name("a", 0.5), Name("b", 0.5), Name("c", 0.9), Name("", 0.1), Name("d", nan)], 60)
    assert words_of(axes) == ["a", "b", "c"]
    assert len(axes.lines) == 2
    height = axes.get_window_extent().height * 72 / figure.dpi
    a, b, _ = (text.get_position()[1] * height for text in axes.texts)
    assert b - a == pytest.approx(LINE)


def test_long_names_are_shortened():
    figure, (axes,) = panels(["t" * 300], "epoch", columns=1, right=60)
    name_ends(axes, [Name("n" * 300, 0.5)], 60)
    (text,) = axes.texts
    assert "\N{HORIZONTAL ELLIPSIS}" in text.get_text()
    assert text.get_window_extent().x1 <= figure.bbox.x1
    assert axes.title.get_window_extent().x1 <= figure.bbox.x1


def test_very_many_values_become_means_in_a_band():
    x = np.arange(10 * POINTS)
    y = np.random.default_rng(0).normal(size=len(x))
    y[70] = 99
    low, (places, means), high = condensed(x, y)
    assert len(means) == POINTS
    np.testing.assert_allclose(means, y.reshape(POINTS, 10).mean(1))
    np.testing.assert_allclose(places, x.reshape(POINTS, 10).mean(1))
    assert (high[7], low.min()) == (99, y.min())
    _, (axes,) = panels(["one"], "step", columns=1)
    curve(axes, x, np.where(x % 7, y, nan), BLUE)
    assert len(axes.lines[0].get_ydata()) == POINTS
    assert np.isfinite(axes.lines[0].get_ydata()).all()
    assert len(axes.collections) == 1


def test_up_to_so_many_values_are_drawn_as_they_are():
    _, (axes,) = panels(["one"], "step", columns=1)
    curve(axes, np.arange(POINTS), np.arange(POINTS) ** 2.0, BLUE)
    assert list(axes.lines[0].get_ydata()) == [float(n * n) for n in range(POINTS)]
    assert axes.lines[0].get_marker() == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2], "linear"), ([1, 11], "log"), ([0, 11], "linear"), ([-1, 11], "linear"), ([nan], "linear")],
)
def test_scales(values, expected):
    _, (axes,) = panels(["one"], "step", columns=1)
    scale(axes, np.array([*values, nan, inf] if expected == "log" else values, dtype=float))
    assert axes.get_yscale() == expected


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1"]),
        ([20, 25, 30], ["20", "25", "30"]),
        ([0.01255, 0.012552, 0.012554], ["0.01255", "0.012552", "0.012554"]),
        ([5e-5, 1e-4, 1.5e-4], ["5e−5", "1e−4", "1.5e−4"]),
        ([-0.5, 0, 0.5], ["−0.5", "0", "0.5"]),
        ([1000, 1001], ["1000", "1001"]),
        ([0.1 * n for n in range(4)], ["0", "0.1", "0.2", "0.3"]),
        ([7], ["7"]),
    ],
)
def test_ticks_are_told_apart_in_few_digits(ticks, texts):
    assert Shortest().format_ticks(ticks) == texts


def test_names_stand_beside_ends_of_lines_of_any_scale():
    with style():
        figure, (axes,) = panels(["title"], "x", columns=1, right=80)
        axes.plot([0, 1], [20, 30])
        name_ends(axes, [Name("end", 30)], 80)
        figure.canvas.draw()
        (text,) = axes.texts
        height = axes.transAxes.transform(text.get_position())[1]
    assert height == pytest.approx(axes.transData.transform((1, 30))[1], abs=1)
