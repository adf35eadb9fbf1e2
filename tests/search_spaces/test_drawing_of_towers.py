"""The drawing of multi-scale towers: everything that was chosen is there, in its place."""

import re
from collections import Counter

import pytest
from reporting.drawings import (
    GENOTYPES,
    LONG,
    PAGE,
    FourWidths,
    OneWidth,
    boxes,
    columns_only,
    figures,
    free,
    free_tower,
    joint,
    lines,
    numbered,
    place,
    places,
    said,
    searched_joint,
)

from manas.architecture.genotype import Genotype
from manas.reporting.drawing import figure as drawing
from manas.reporting.drawing.sheet import (
    BLUE,
    FAINT,
    PALE_BLUE,
    PALE_VERMILION,
    VERMILION,
    WIRE,
    shortened,
)
from manas.reporting.drawing.stitches import scale_name
from search_spaces.multi_scale_attentive import MultiScaleAttentive
from search_spaces.multi_scale_attentive.drawing.attention import GATES, PILL
from search_spaces.multi_scale_attentive.drawing.labels import read_network
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES as SEARCHED


@pytest.fixture(scope="module")
def drawn():
    return figures()


def test_every_gate_of_manas_has_a_readable_name():
    assert list(GATES) == list(SEARCHED)
    shown = "none, skip, sep 3x3, dil 3x3, sep spatial, dil spatial, CA, CA v2, CBAM"
    assert ", ".join(gate.name for gate in GATES.values()) == shown


@pytest.mark.parametrize("name", ["manas 0", "manas 1", "manas_tiny 0", "manas_small", "two towers"])
def test_every_edge_and_every_column_is_written_out(name, drawn):
    chosen = Counter(GENOTYPES[name].choices.values())
    written = said(drawn[name])
    for gate, shown in GATES.items():
        assert written[shown.name] == chosen[gate] + bool(chosen[gate]), gate  # once more in the key
        assert written[shown.meaning] == bool(chosen[gate])
    for column, letter in (("parallel", "P"), ("fusion", "F")):
        assert written[letter] == chosen[column] + bool(chosen[column])


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_every_gate_stands_in_its_cell_at_its_scale_beside_its_nodes(groups):
    genotype = numbered(2, groups)
    at = {text: spots[0] for text, spots in places(drawing.figure(genotype)).items()}
    cells = [at[name][0] for name in ("cell 0", "cell 1", "head")]
    scales = [at[name][1] for name in ("1", "1/2", "1/4")]
    assert cells == sorted(cells)
    assert scales == sorted(scales)
    for label, gate in genotype.choices.items():
        if match := re.fullmatch(r"cell(.)/branch(.)/node(.)/(input|node(.))", label):
            cell, scale, node = (int(match[n]) for n in (1, 2, 3))
            x, y = at[gate]
            assert cells[cell] < x < cells[cell + 1], label
            rows = [at[f"{cell}{scale}{k}it"] for k in range(groups)]
            middle = sum(height for _, height in rows) / groups
            assert middle == pytest.approx(scales[scale], abs=1)
            assert rows == sorted(rows, key=lambda row: row[1])
            if match[5]:
                assert y == pytest.approx((rows[node][1] + rows[int(match[5])][1]) / 2, abs=1)
                assert x > rows[node][0]


def test_every_scale_has_a_wire_and_begins_with_a_transition():
    figure = drawing.figure(columns_only("fusion"))
    scales = [text.get_position()[1] for text in figure.axes[0].texts if text.get_text() in ("1", "1/2", "1/4")]
    paths = [line.get_path().vertices for line in lines(figure, WIRE)]
    through = Counter(path[0, 1] for path in paths if len(path) == 2 and path[0, 1] == path[1, 1])
    pitch = scales[1] - scales[0]
    first = min(through)
    # in cell 0, in cell 1, to the head; of the finest scale also the image that comes and goes
    assert sorted(through.items()) == [(first, 5), (first + pitch, 3), (first + 2 * pitch, 2)]
    swings = [(path[0, 1], path[-1, 1]) for path in paths if len(path) == 4]
    assert swings == [(first, first + pitch), (first + pitch, first + 2 * pitch)]


def test_the_edges_that_give_nothing_are_faint_and_dashed():
    choices = numbered(2).choices
    nothing = drawing.figure(free_tower({k: v if "column" in k else "none" for k, v in choices.items()}))
    all_edges = sum("branch" in label for label in choices)
    assert (
        len([line for line in lines(nothing, FAINT) if line.get_linestyle() not in ("-", "solid")]) == all_edges
    )
    assert not lines(drawing.figure(numbered(2)), FAINT)


def test_parallel_columns_are_boxes_and_fusion_columns_cross():
    parallel, fusion = (drawing.figure(columns_only(name)) for name in ("parallel", "fusion"))
    assert len(boxes(parallel, PALE_BLUE)) == 2 * 2 + 2 * 3 + 1  # one a scale and column, and the key
    assert len(lines(parallel, BLUE)) == 2 * 2 + 2 * 3  # the ways around them
    assert len(boxes(fusion, PALE_VERMILION)) == 2 + 2 + 1  # one a column, and the key
    segments = [len(line.get_path().vertices) / 2 for line in lines(fusion, VERMILION)]
    assert segments == [2**2, 2**2, 3**2, 3**2]  # from every scale to every scale
    assert not [*boxes(parallel, PALE_VERMILION), *lines(parallel, VERMILION)]
    assert not [*boxes(fusion, PALE_BLUE), *lines(fusion, BLUE)]


def test_columns_can_be_told_apart_in_grey():
    grey = [drawing.raster(columns_only(name)).mean(2) for name in ("parallel", "fusion")]
    assert (abs(grey[0] - grey[1]) > 40).mean() > 0.01


def test_without_attention_the_channels_say_how_many_cells_there_are():
    choices = {"cell0/column0": "fusion"}
    assert {"1/4", "1/8"} & said(drawing.figure(free_tower(choices))).keys() == set()
    assert said(drawing.figure(free(choices, FourWidths()))).keys() >= {"cell 2", "1/8"}
    (tower,) = read_network(free(choices, OneWidth())).towers
    assert [cell.scales for cell in tower.cells] == [2]
    attended = free({**choices, "cell0/branch2/node0/input": "cbam"}, FourWidths())
    assert "1/4" in said(drawing.figure(attended))
    assert "1/8" not in said(drawing.figure(attended))


def test_a_gate_of_ones_own_is_shown_by_its_name_and_explained_where_that_is_cut(drawn):
    written = said(drawn["own names"])
    long = shortened(LONG[2], PILL - 2.5)
    assert written["contrast"] == list(GENOTYPES["own names"].choices.values()).count("contrast")
    assert "\N{HORIZONTAL ELLIPSIS}" in long
    assert long[:4] == LONG[2][:4]
    assert long[-2:] == LONG[2][-2:]
    assert written[long] > 1
    assert written[LONG[2]] == 1
    assert written["dense_block"] == 1


@pytest.mark.parametrize(
    ("genotype", "stitches", "fusion"),
    [
        (joint("manas_tiny", stitch="layer", fusion="conv"), ["layer", "layer"], "conv"),
        (joint("manas_tiny", stitch="none", fusion="mask"), ["none", "none"], "mask"),
        *(
            (g, [g.choices["stitch/stage0"], g.choices["stitch/stage1"]], g.choices["fusion"])
            for g in map(searched_joint, (0, 3))
        ),
    ],
)
def test_stitches_stand_between_the_towers_and_the_fusion_at_their_right(genotype, stitches, fusion):
    figure = drawing.figure(genotype)
    found = places(figure)
    (_, first), (_, second) = found["derain"][0], found["desnow"][0]
    assert first < second
    at = sorted((spot, text) for text, spots in found.items() if "stitch" in text for spot in spots)
    assert [text for _, text in at] == [f"stitch: {name}" for name in stitches]
    lowest = max(y for _, y in found["1/4"] if y < second)
    cells = [found["cell 0"][0][0], found["cell 1"][0][0], found["head"][0][0] + 50]
    for stage, ((x, y), _) in enumerate(at):
        assert lowest < y < second
        assert cells[stage] < x < cells[stage + 1]
    x, y = place(figure, f"fusion: {fusion}")
    assert x > max(x for x, _ in found["head"])
    assert found["head"][0][1] < y < found["head"][1][1]


def test_a_tower_without_another_has_neither_stitch_nor_fusion(drawn):
    assert not [text for text in said(drawn["one task"]) if text.startswith(("stitch", "fusion: m"))]
    assert said(drawn["one task"])["derain"] == 1


def test_what_is_too_wide_for_a_page_keeps_its_text_readable():
    wide = drawing.figure(free_tower({f"cell{c}/column{n}": "fusion" for c in range(3) for n in range(18)}))
    assert wide.get_size_inches()[0] > PAGE
    assert min(text.get_fontsize() for text in wide.axes[0].texts) >= 5 - 1e-9


def test_scales_are_named_by_their_part_of_the_image():
    space = MultiScaleAttentive(channels=(16, 16), columns=(1,), shuffle=2)
    (tower,) = read_network(Genotype.sample(space, seed=0)).towers
    assert [scale_name(scale, tower.shuffle) for scale in range(2)] == ["1/2", "1/4"]
    assert [scale_name(scale) for scale in range(2)] == ["1", "1/2"]
