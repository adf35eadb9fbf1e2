"""The drawing of a genotype: everything that was chosen is there, in its place, and can be read in print."""

import functools
import importlib
import re
import sys
from collections import Counter
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch, PathPatch

import manas
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.reporting.drawing import figure as drawing
from manas.reporting.drawing.attention import GATES, PILL
from manas.reporting.drawing.grid import scale_name
from manas.reporting.drawing.labels import read_network
from manas.reporting.drawing.sheet import (
    BLUE,
    FAINT,
    PALE_BLUE,
    PALE_VERMILION,
    SHADE,
    TEXT,
    VERMILION,
    WIRE,
    length,
    shortened,
)
from manas.restoration.network import RestorationSpace, assemble
from search_spaces.multi_scale_attentive import MultiScaleAttentive
from search_spaces.multi_scale_attentive.gates import GATES as SEARCHED

# Three scales, so that there are two stages to draw, and a stitch after each.
TOWERS = {
    "manas_tiny": {"kind": "multi_scale_attentive", "channels": [16, 24, 32], "columns": [1, 1]},
    "manas_small": {"kind": "multi_scale_attentive", "channels": [16, 32, 64], "columns": [2, 2]},
}
COST = {"parameters": 4724520, "macs": 1305819520, "input": [3, 64, 96]}
COLUMN, PAGE = 3.4, 7.1  # inches
TASKS = ("derain", "desnow")


class Free(SearchSpace):
    """Takes whatever choices are made."""

    def check(self, choices):
        pass


class FreeNetwork(RestorationSpace, Free):
    """So does this network."""


class FourWidths(Free):
    channels: tuple[int, ...] = (4, 8, 16, 32)


class OneWidth(Free):
    channels: int = 4


def free(choices, space=None, **provenance):
    return Genotype(space=space or Free(), choices=choices, provenance=provenance)


@functools.cache
def sampled(name, seed=0):
    return Genotype.sample(manas.load_space(TOWERS.get(name, name)), seed).model_copy(
        update={"provenance": COST}
    )


@functools.cache
def joint(name, **joints):
    return assemble({task: sampled(name, seed) for seed, task in enumerate(TASKS)}, **joints)


@functools.cache
def searched_joint(seed, tasks=TASKS):
    towers = dict.fromkeys(tasks, manas.load_space(TOWERS["manas_tiny"]))
    return Genotype.sample(RestorationSpace(towers=towers, stitch="searched", fusion="searched"), seed)


def edges(groups):
    return [(k, source) for k in range(groups) for source in ("input", *(f"node{j}" for j in range(k)))]


def numbered(cells=3, groups=2):
    """A tower in which the gate of every edge says where it is."""
    choices = {}
    for c in range(cells):
        choices |= {f"cell{c}/column{n}": ("parallel", "fusion")[n % 2] for n in range(2)}
        for b in range(c + 2):
            named = {(k, source): f"{c}{b}{k}{source[0]}{source[-1]}" for k, source in edges(groups)}
            choices |= {f"cell{c}/branch{b}/node{k}/{source}": name for (k, source), name in named.items()}
    return free(choices)


def columns_only(name, count=2):
    return free({f"cell{c}/column{n}": name for c in range(2) for n in range(count)})


LONG = ("none", "contrast", "a_gate_with_a_long_name_that_goes_on", "w" * 26, "cbam", "x", "q" * 300)
NESTED = {"fork0": "a", "fork0/a/fork0": "b", "fork0/a/fork0/b/x": "c", "fork0/a/fork1": "d", "fork1": "e"}
NARROW = MultiScaleAttentive(channels=(4,) * 4, columns=(1, 1, 1), attention=None)

SMALL = numbered(1, 1)

GENOTYPES = {
    **{f"{name} {seed}": sampled(name, seed) for name in ("manas", "clearer", "manas_tiny") for seed in (0, 1)},
    "manas_small": sampled("manas_small"),
    "two towers": joint("manas_tiny"),
    "two paper towers": free(
        {f"{task}/{label}": name for task in TASKS for label, name in sampled("manas").choices.items()},
        FreeNetwork(towers=dict.fromkeys(TASKS, Free()), stitch="channel", fusion="conv"),
    ),
    "two towers without attention": joint("clearer", stitch="none", fusion="mean"),
    "searched joints": searched_joint(3),
    "three towers": searched_joint(4, (*TASKS, "d" * 40)),
    "one task": assemble({"derain": sampled("manas_tiny", 2)}),
    **{f"{groups} groups": numbered(2, groups) for groups in (1, 2, 3, 4)},
    "own names": free(
        {label: LONG[n % len(LONG)] for n, label in enumerate(numbered(2).choices)}
        | {"cell0/column0": "dense_block", "cell1/column1": "y" * 200}
    ),
    "narrow cells": Genotype.sample(RestorationSpace(towers=dict.fromkeys(TASKS, NARROW), stitch="channel"), 0),
    "many scales": free({f"cell{c}/column0": "fusion" for c in range(8)}),
    "layers": free({f"layer{n}": f"conv{n % 3}" for n in range(40)}, **COST),
    "nested": free(NESTED),
    "long words": free({"l" * 300: "c" * 200, "m/n": "o"}, **COST),
    "mixed towers": free(
        {"derain/layer0": "conv3", **{f"desnow/{label}": name for label, name in numbered(2).choices.items()}},
        FreeNetwork(towers=dict.fromkeys(TASKS, Free())),
    ),
    "no forks": free({}),
}


@pytest.fixture(scope="module")
def drawn():
    """The figure of each genotype, at a resolution at which extents are exact to a fraction of a point."""
    figures = {name: drawing.figure(genotype) for name, genotype in GENOTYPES.items()}
    for figure in figures.values():
        figure.set_dpi(300)
    return figures


def extents(figure):
    """Every text with its box on the page."""
    renderer = figure.canvas.get_renderer()
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):
        return [(text, text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def places(figure):
    """Where the middles of the texts are, by what they say: x to the right, y downwards."""
    height, found = figure.bbox.height, {}
    for text, box in extents(figure):
        found.setdefault(text.get_text(), []).append(((box.x0 + box.x1) / 2, height - (box.y0 + box.y1) / 2))
    return found


def place(figure, text):
    (found,) = places(figure)[text]
    return found


def said(figure):
    return Counter(text.get_text() for text in figure.axes[0].texts)


def boxes(figure, colour):
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return [patch for patch in found if to_hex(patch.get_facecolor()) == colour]


def lines(figure, colour):
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    return [patch for patch in found if to_hex(patch.get_edgecolor()) == colour]


# What is drawn ---------------------------------------------------------------------------------------------


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
    nothing = drawing.figure(free({k: v if "column" in k else "none" for k, v in choices.items()}))
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
    assert {"1/4", "1/8"} & said(drawing.figure(free(choices))).keys() == set()
    assert said(drawing.figure(free(choices, FourWidths()))).keys() >= {"cell 2", "1/8"}
    assert said(drawing.figure(free(choices, OneWidth()))).keys() >= {"cell 0", "1/2"}
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


def test_the_title_says_what_the_architecture_costs():
    written = said(drawing.figure(sampled("manas_tiny")))
    assert written["4.72 M parameters, 1.31 G MACs at 96 x 64"] == 1
    assert written["multi scale attentive"] == written["17 choices"] == 1
    both = said(drawing.figure(joint("manas_tiny")))
    assert both["derain: 4.72 M parameters, 1.31 G MACs at 96 x 64"] == 1
    whole = joint("manas_tiny").model_copy(update={"provenance": {"parameters": 141660, "macs": 8}})
    assert said(drawing.figure(whole))["142 k parameters, 8 MACs"] == 1


@pytest.mark.parametrize("value", [None, "many", -1, True, float("nan"), 10**400, [1], {}])
def test_a_cost_that_is_no_count_is_left_out(value):
    odd = drawing.figure(free({"a": "b"}, parameters=value, macs=value, input="64x64"))
    assert said(odd) == {"Free": 1, "1 choice": 1, "a": 1, "b": 1}


# Networks of several towers --------------------------------------------------------------------------------


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


# Any other space -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layers", "nested", "mixed towers"])
def test_any_other_genotype_becomes_a_box_a_fork(name, drawn):
    genotype = GENOTYPES[name]
    joints = ["stitch", "layer", "fusion", "mask"] if name == "mixed towers" else []
    expected = Counter([*genotype.choices, *genotype.choices.values(), *joints])
    written = said(drawn[name])
    assert {text: written[text] for text in expected} == expected
    lefts = {}
    for text, box in extents(drawn[name]):
        lefts.setdefault(text.get_text(), []).append((box.x0, box.y0))
    line = drawn[name].bbox.width / drawn[name].axes[0].get_xlim()[1] * 8
    for label, choice in genotype.choices.items():
        ((left, bottom),) = lefts[label]
        assert any(abs(x - left) < 3 and 0.5 * line < bottom - y < 1.5 * line for x, y in lefts[choice])


def test_forks_follow_each_other_from_left_to_right_in_rows(drawn):
    found = places(drawn["layers"])
    spots = [found[label][0] for label in GENOTYPES["layers"].choices]
    rows = sorted({round(y) for _, y in spots})
    assert 1 < len(rows) < len(spots) / 3
    assert spots == sorted(spots, key=lambda spot: (round(spot[1]), spot[0]))


def test_a_fork_inside_another_is_drawn_inside_its_frame(drawn):
    figure = drawn["nested"]
    renderer = figure.canvas.get_renderer()
    frames = [patch.get_window_extent(renderer) for patch in boxes(figure, SHADE)]
    around = {}
    for text, box in extents(figure):
        if text.get_text() in NESTED:
            around[text.get_text()] = sum(f.x0 <= box.x0 <= f.x1 and f.y0 <= box.y0 <= f.y1 for f in frames)
    assert around == {"fork0": 1, "fork0/a/fork0": 2, "fork0/a/fork0/b/x": 2, "fork0/a/fork1": 1, "fork1": 0}


def test_fixed_joints_are_shown_with_towers_of_another_kind(drawn):
    assert said(drawn["mixed towers"]).keys() >= {"derain", "desnow", "stitch", "layer", "fusion", "mask"}


def test_a_label_that_no_tower_has_makes_it_another_space():
    choices = {**numbered(1).choices, "cell0/kernel": "large"}
    assert said(drawing.figure(free(choices)))["cell0/kernel"] == 1
    backwards = {"cell0/branch0/node0/node1": "cbam"}
    assert said(drawing.figure(free(backwards)))["cell0/branch0/node0/node1"] == 1
    network = FreeNetwork(towers=dict.fromkeys(TASKS, Free()))
    towers = {f"{task}/cell0/column0": "fusion" for task in TASKS}
    assert "stem" in said(drawing.figure(free(towers, network)))
    assert "gate" in said(drawing.figure(free({**towers, "gate": "large"}, network)))


# Legibility ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENOTYPES)
def test_texts_neither_overlap_nor_leave_the_page(name, drawn):
    found = extents(drawn[name])
    page = drawn[name].bbox
    for text, box in found:
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text
    for (one, box), (other, second) in combinations(found, 2):
        overlaps = box.x0 < second.x1 and second.x0 < box.x1 and box.y0 < second.y1 and second.y0 < box.y1
        assert not overlaps, (one, other)


@pytest.mark.parametrize("name", GENOTYPES)
def test_no_edge_of_a_box_and_no_line_goes_through_a_text(name, drawn):
    figure = drawn[name]
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch | PathPatch)]
    paths = [patch.get_path().transformed(patch.get_transform()) for patch in patches]
    for text, box in extents(figure):
        covered = 0  # by the last box behind the text, which hides what was drawn before it
        for place, (patch, path) in enumerate(zip(patches, paths, strict=True)):
            inside = path.contains_points([(box.x0, box.y0), (box.x1, box.y1)])
            if isinstance(patch, FancyBboxPatch) and inside.all():
                covered = place + 1
        for patch, path in zip(patches[covered:], paths[covered:], strict=True):
            assert not path.intersects_bbox(box, filled=False), (text, patch)


@pytest.mark.parametrize("name", GENOTYPES)
def test_boxes_and_signs_are_inside_each_other_or_apart(name, drawn):
    figure = drawn[name]
    renderer = figure.canvas.get_renderer()
    kinds = FancyBboxPatch | Ellipse
    found = [p.get_window_extent(renderer) for p in figure.axes[0].patches if isinstance(p, kinds)]
    x0, y0, x1, y1 = np.array([box.extents for box in found]).reshape(-1, 4).T[:, :, None]
    width, height = np.minimum(x1, x1.T) - np.maximum(x0, x0.T), np.minimum(y1, y1.T) - np.maximum(y0, y0.T)
    apart = np.minimum(width, height) < 1  # pixel
    within = (np.abs(width - (x1 - x0)) < 0.1) & (np.abs(height - (y1 - y0)) < 0.1)
    assert (apart | within | within.T).all()


def test_text_is_as_wide_as_was_measured(drawn):
    for name in ("two towers", "manas 0", "nested"):
        points = drawn[name].bbox.width / drawn[name].axes[0].get_xlim()[1]
        for text, box in extents(drawn[name]):
            if not text.get_rotation():
                bold = text.get_fontweight() == "bold"
                size = text.get_fontsize() / points * 300 / 72
                assert box.width / points == pytest.approx(
                    length(text.get_text(), size, bold=bold), rel=0.02, abs=0.3
                )
                assert size >= TEXT - 1e-9
            assert not text.get_parse_math()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("manas_tiny 0", COLUMN), ("manas_small", COLUMN), ("clearer 0", COLUMN), ("two towers", COLUMN)),
        *(("manas 0", PAGE), ("two paper towers", PAGE), ("two towers without attention", PAGE)),
        *(("own names", COLUMN), ("layers", PAGE), ("nested", COLUMN), ("mixed towers", PAGE)),
    ],
)
def test_text_has_five_points_in_print(name, width, drawn):
    figure = drawn[name]
    assert figure.get_size_inches()[0] <= width + 1e-9
    sizes = [text.get_fontsize() for text in figure.axes[0].texts]
    assert min(sizes) >= 5 - 1e-9
    assert max(sizes) < 9


def test_what_is_too_wide_for_a_page_keeps_its_text_readable():
    wide = drawing.figure(free({f"cell{c}/column{n}": "fusion" for c in range(3) for n in range(18)}))
    assert wide.get_size_inches()[0] > PAGE
    assert min(text.get_fontsize() for text in wide.axes[0].texts) >= 5 - 1e-9


def test_shortened_text_fits():
    for width in (12, 27, 60):
        assert length(shortened("abcdefghijklmnopqrstuvwxyz" * 3, width)) <= width
    assert shortened("abc", 100) == "abc"


# Files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "SVG"])
def test_the_same_genotype_gives_the_same_bytes(suffix, tmp_path):
    first = drawing.draw(SMALL, tmp_path / "new" / f"first.{suffix}")
    drawing.draw(columns_only("fusion"), tmp_path / "between.svg")
    odd = {
        "font.family": "serif",
        "font.size": 30,
        "savefig.bbox": "tight",
        "svg.hashsalt": None,
        "lines.linewidth": 9,
    }
    with matplotlib.rc_context(
        {**odd, "axes.facecolor": "red", "patch.linewidth": 7, "path.sketch": (3, 9, 2)}
    ):
        second = drawing.draw(SMALL, str(tmp_path / f"second.{suffix}"))
    other = drawing.draw(numbered(1, 2), tmp_path / f"other.{suffix}")
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert len(list(tmp_path.iterdir())) == 4
    for mark in (b"<dc:date>", b"CreationDate", b"ModDate"):
        assert mark not in first.read_bytes()


def test_the_texts_of_an_svg_are_text(tmp_path):
    genotype = SMALL
    path = drawing.draw(genotype, tmp_path / "tiny.svg")
    root = ElementTree.parse(path).getroot()
    texts = [element for element in root.iter() if element.tag.endswith("}text")]
    assert Counter("".join(text.itertext()) for text in texts) == said(drawing.figure(genotype))
    assert all("DejaVu Sans" in text.get("style") for text in texts)
    assert root.get("width") == f"{COLUMN * 72:g}pt"


def test_a_pdf_embeds_its_font_as_truetype(tmp_path):
    content = drawing.draw(SMALL, tmp_path / "tiny.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


@pytest.mark.parametrize("name", ["drawing.jpg", "drawing", "drawing.svgz", ".svg"])
def test_another_suffix_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(ManasError, match=r"\.svg, \.png, \.pdf"):
        drawing.draw(SMALL, tmp_path / "folder" / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="file"):
        drawing.draw(SMALL, tmp_path / "file" / "tiny.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_drawing_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = drawing.draw(SMALL, tmp_path / "tiny.svg")
    before = path.read_bytes()

    def torn(figure, path, **options):
        path.write_bytes(b"<svg")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(OSError, match="disk full"):
        drawing.draw(numbered(1, 2), path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_raster_is_a_picture_on_white():
    picture = drawing.raster(SMALL)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[1] <= COLUMN * 200
    assert (picture[[0, -1]] == 255).all()
    assert (picture[:, [0, -1]] == 255).all()
    assert 0.03 < (picture < 200).any(2).mean() < 0.4


def test_no_window_is_opened(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("manas.reporting.")]:
        monkeypatch.setattr(name, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it is an error
    fresh = importlib.import_module("manas.reporting.drawing.figure")
    assert fresh is not drawing
    fresh.raster(SMALL)


def test_scales_are_named_by_their_part_of_the_image():
    space = MultiScaleAttentive(channels=(16, 16), columns=(1,), shuffle=2)
    (tower,) = read_network(Genotype.sample(space, seed=0)).towers
    assert [scale_name(scale, tower.shuffle) for scale in range(2)] == ["1/2", "1/4"]
    assert [scale_name(scale) for scale in range(2)] == ["1", "1/2"]
