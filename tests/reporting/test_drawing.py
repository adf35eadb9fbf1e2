"""The drawing of a genotype: everything that was chosen is there, and can be read in print."""

import importlib
import sys
from collections import Counter
from importlib.metadata import EntryPoint
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch, PathPatch
from reporting.drawings import (
    COLUMN,
    GENOTYPES,
    PAGE,
    SMALL,
    TASKS,
    Free,
    FreeNetwork,
    FreeTower,
    boxes,
    columns_only,
    extents,
    figures,
    free,
    free_tower,
    joint,
    numbered,
    places,
    said,
    sampled,
)

from manas.architecture import registry
from manas.errors import ManasError
from manas.reporting.drawing import contract
from manas.reporting.drawing import figure as drawing
from manas.reporting.drawing.contract import Drawing, drawing_of
from manas.reporting.drawing.sheet import (
    PALE,
    SHADE,
    TEXT,
    WHITE,
    length,
    shortened,
)


@pytest.fixture(scope="module")
def drawn():
    return figures()


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


# Any other space -------------------------------------------------------------------------------------------


def read_back(figure):
    """Label -> choice of every box with a choice, by what stands inside what.

    The label of a box begins with those of the frames around it, each with its choice where it has one.
    """
    renderer = figure.canvas.get_renderer()
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    frames = [patch.get_window_extent(renderer) for patch in patches]

    def around(box):
        holding = [f for f in frames if f.x0 <= box.x0 <= box.x1 <= f.x1 and f.y0 <= box.y0 <= box.y1 <= f.y1]
        return tuple(sorted((f.width * f.height, *f.extents) for f in holding)[::-1])

    texts = {}
    for text, box in sorted(extents(figure), key=lambda pair: -pair[1].y0):
        texts.setdefault(around(box), []).append(text.get_text())
    found = {}
    for chain, own in texts.items():
        if chain and len(own) == 2:  # a label and a choice
            before = [part for end in range(1, len(chain)) for part in texts[chain[:end]]]
            label = "/".join([*before, own[0]])
            assert label not in found
            found[label] = own[1]
    return found


@pytest.mark.parametrize("name", ["layers", "nested", "mixed towers", "parts"])
def test_any_other_genotype_becomes_a_box_a_fork(name, drawn):
    joints = {"stitch": "layer", "fusion": "mask"} if name == "mixed towers" else {}
    assert read_back(drawn[name]) == GENOTYPES[name].choices | joints


def test_labels_that_begin_alike_share_a_frame(drawn):
    figure = drawn["parts"]
    texts = said(figure)
    assert texts["stage0"] == texts["stage1"] == 1
    assert texts["block0"] == texts["block1"] == 2
    assert texts["kernel"] == texts["width"] == 4
    assert texts["head/last/size"] == 1  # nothing parts there
    assert len(boxes(figure, SHADE)) == 2 + 4


def test_frames_are_as_wide_as_what_is_in_them():
    renderer = drawing.figure(free({"a/x": "1", "a/y": "2", "b/x": "3", "b/y": "4"}))
    frames = [patch.get_window_extent() for patch in boxes(renderer, SHADE)]
    assert len({round(frame.y0) for frame in frames}) == 1  # side by side
    assert frames[0].x1 < frames[1].x0


def test_equal_choices_have_equal_colours_where_they_can_be_told_apart():
    few = drawing.figure(free({f"layer{n}": f"conv{n % 3}" for n in range(9)}))
    assert [len(boxes(few, colour)) for colour in PALE] == [3, 3, 3, 0, 0, 0]
    many = drawing.figure(free({f"layer{n}": f"conv{n}" for n in range(7)}))
    assert len(boxes(many, WHITE)) == 7


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
    depths = Counter()
    for text, box in extents(figure):
        depth = sum(f.x0 <= box.x0 <= f.x1 and f.y0 <= box.y0 <= f.y1 for f in frames)
        depths[text.get_text(), int(depth)] += 1
    places = {("fork0", 1): 1, ("fork0", 2): 1, ("x", 2): 1, ("fork1", 1): 1, ("fork1", 0): 1}
    assert {key: depths[key] for key in places} == places


def test_fixed_joints_are_shown_with_towers_of_another_kind(drawn):
    assert said(drawn["mixed towers"]).keys() >= {"derain", "desnow", "stitch", "layer", "fusion", "mask"}


def test_a_label_that_no_tower_has_makes_it_another_space():
    choices = {**numbered(1).choices, "cell0/kernel": "large"}
    assert said(drawing.figure(free_tower(choices)))["kernel"] == 1
    backwards = {"cell0/branch0/node0/node1": "cbam"}
    assert said(drawing.figure(free_tower(backwards)))["cell0/branch0/node0/node1"] == 1
    network = FreeNetwork(towers=dict.fromkeys(TASKS, FreeTower()))
    towers = {f"{task}/cell0/column0": "fusion" for task in TASKS}
    assert "stem" in said(drawing.figure(free(towers, network)))
    assert "gate" in said(drawing.figure(free({**towers, "gate": "large"}, network)))


# How a space draws itself ----------------------------------------------------------------------------------


class Bars(Drawing):
    """A bar a fork."""

    def can_draw(self, genotype):
        return "odd" not in genotype.choices

    def draw(self, sheet, genotype, top):
        for place, name in enumerate(genotype.choices.values()):
            sheet.text(20, top + 10 * place, f"bar {name}")
        return top + 10 * len(genotype.choices)


class Registered(Free):
    """A space that is entered with a drawing."""


class Extended(Registered):
    """A space that extends it, and is not entered."""


@pytest.fixture
def _entered(monkeypatch):
    """Entry points as an installed package brings them."""
    here = f"{__name__}:Registered"
    entries = {
        "manas.spaces": {"bars": EntryPoint("bars", here, "manas.spaces")},
        "manas.drawings": {"bars": EntryPoint("bars", f"{__name__}:Bars", "manas.drawings")},
    }
    known = registry.registered

    def registered(group):
        return {**known(group), **entries.get(group, {})}

    for module in (registry, contract):
        monkeypatch.setattr(module, "registered", registered)


@pytest.mark.usefixtures("_entered")
class TestContract:
    """Spaces with a drawing, which an entry point names by the kind of the space."""

    @pytest.mark.parametrize(
        "space",
        [
            Registered(),
            Extended(),
            FreeNetwork(towers={"derain": Registered()}),
            FreeNetwork(towers={"derain": Registered(), "desnow": Extended()}),
        ],
    )
    def test_a_space_draws_itself(self, space):
        written = said(drawing.figure(free({"a": "wide"}, space)))
        assert written["bar wide"] == 1
        assert written["1 choice"] == 1  # the title is everybody's

    @pytest.mark.parametrize(
        ("space", "label"),
        [
            (Free(), "a"),
            (FreeNetwork(towers={"derain": Registered(), "desnow": Free()}), "a"),
            (FreeNetwork(towers={"derain": Registered(), "desnow": FreeTower()}), "a"),
            (Registered(), "odd"),
        ],
        ids=["no drawing", "a tower without", "a tower with another", "cannot draw it"],
    )
    def test_else_it_is_a_box_a_fork(self, space, label):
        written = said(drawing.figure(free({label: "wide"}, space)))
        assert (written[label], written["wide"], written["bar wide"]) == (1, 1, 0)

    def test_its_candidates_have_plain_signs_unless_it_says_more(self):
        assert drawing_of(Registered()).sign("conv") == ("conv", "#eeeeee")
        assert drawing_of(FreeTower()).sign("skip_connect").name == "skip"
        assert drawing_of(Free()) is None

    def test_what_is_no_drawing_is_named(self, monkeypatch):
        monkeypatch.setattr(sys.modules[__name__], "Bars", Free)
        with pytest.raises(ManasError, match="'bars' is no Drawing"):
            drawing.figure(free({"a": "b"}, Registered()))


def test_a_drawing_that_draws_nothing_says_so():
    with pytest.raises(NotImplementedError, match=r"Drawing does not define draw\(sheet, genotype, top\)"):
        Drawing().draw(None, SMALL, 0)


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
    drawings = ("manas.reporting.", "search_spaces.multi_scale_attentive.drawing")
    for name in [name for name in sys.modules if name.startswith(drawings)]:
        monkeypatch.setattr(name, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it is an error
    fresh = importlib.import_module("manas.reporting.drawing.figure")
    assert fresh is not drawing
    fresh.raster(SMALL)
