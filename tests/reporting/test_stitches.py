"""The stitches of a network: every number by its name, and drawn in its place."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.tiny_runs import RAIN, SNOW, retrain_config, write_genotype

import manas
from manas.architecture.genotype import Genotype
from manas.data.images import read_image
from manas.errors import ManasError
from manas.reporting.drawing import stitches as drawing
from manas.reporting.drawing.sheet import FAINT
from manas.reporting.report.page import write_report
from manas.reporting.stitch_numbers import Stitches, stitches_of
from manas.restoration.model_file import load_model
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive

TASKS = ("derain", "desnow")
DRN = DualRecursive(channels=3, stages=4, recursions=1)


def network(space=DRN, choices=None, tasks=TASKS, **options):
    made = RestorationSpace(towers=dict.fromkeys(tasks, space), **options)
    return made.network(choices or Genotype.sample(made, 0).choices)


def numbered(made):
    """Every entry of a network's stitches gets a number of its own; channels differ by 0.25 around it."""
    with torch.no_grad():
        number = 0
        for stitch in made.stitches:
            for matrix in stitch.matrices:
                entries = torch.arange(number, number + matrix[..., 0].numel()).view(matrix.shape[:2]) / 100
                around = torch.linspace(-0.25, 0.25, matrix.shape[2]) if matrix.shape[2] > 1 else torch.zeros(1)
                matrix.copy_(entries[:, :, None] + around)
                number += matrix[..., 0].numel()
    return made


def drawn(*matrices, tasks=TASKS, channelwise=False):
    """Stitches of one scale, a matrix a stage."""
    by_stage = {f"stage{place}": [np.array(matrix)] for place, matrix in enumerate(matrices)}
    return Stitches(tasks, by_stage, channelwise)


def cells(figure: Figure):
    """(left, top) -> (text, colour) of every entry, in units of the sheet."""
    boxes = figure.findobj(FancyBboxPatch)
    found = {}
    for box in boxes:
        if box.get_edgecolor()[:3] != to_rgb(FAINT):
            continue  # of the key
        x, y, width, height = box.get_x(), box.get_y(), box.get_width(), box.get_height()
        inside = [
            text.get_text()
            for text in figure.axes[0].texts
            if x < text.get_position()[0] < x + width and y < text.get_position()[1] < y + height
        ]
        assert len(inside) == 1
        found[round(x, 3), round(y, 3)] = inside[0], tuple(box.get_facecolor()[:3])
    return found


def read_back(figure, tasks=2):
    """The texts of a row of maps, map by map, each as a list of its rows."""
    found = cells(figure)
    lefts, tops = (sorted({place[axis] for place in found}) for axis in (0, 1))
    rows = [[found[left, top][0] for left in lefts] for top in tops]
    return [[row[m : m + tasks] for row in rows] for m in range(0, len(lefts), tasks)]


class TestNumbers:
    def test_by_name(self):
        values = stitches_of(numbered(network())).values
        assert len(values) == 4 * 4
        assert list(values)[:4] == [
            "stitch/stage0/scale0/derain<-derain",
            "stitch/stage0/scale0/derain<-desnow",
            "stitch/stage0/scale0/desnow<-derain",
            "stitch/stage0/scale0/desnow<-desnow",
        ]
        assert list(values.values()) == pytest.approx([n / 100 for n in range(16)])

    def test_the_name_says_who_takes_of_whom(self):
        """Rain flows into the snow's tower alone: what the rain's tower gives is not changed by the snow's."""
        made = network(fusion="mean")
        with torch.no_grad():
            for stitch in made.stitches:
                stitch.matrices[0].copy_(torch.eye(2)[:, :, None])
            made.stitches[0].matrices[0][1, 0] = 0.5
        values = stitches_of(made).values
        assert [name for name, value in values.items() if value == 0.5] == [
            "stitch/stage0/scale0/desnow<-derain"
        ]
        image = torch.rand(1, 3, 8, 8)
        before = made(image).tasks
        with torch.no_grad():
            for parameter in made.towers["desnow"].parameters():
                parameter += 0.1
        assert torch.equal(made(image).tasks["derain"], before["derain"])
        with torch.no_grad():
            for parameter in made.towers["derain"].parameters():
                parameter += 0.1
        changed = made(image).tasks["desnow"]
        made.stitches[0].matrices[0].data[1, 0] = 0
        assert not torch.equal(made(image).tasks["desnow"], changed)

    def test_scales_and_the_mean_over_channels(self, small_tower):
        found = stitches_of(numbered(network(small_tower, stitch="channel")))
        assert found.channelwise
        assert {place: len(scales) for place, scales in found.matrices.items()} == {"stage0": 2, "stage1": 3}
        assert list(found.values.values()) == pytest.approx([n / 100 for n in range(5 * 4)], abs=1e-6)
        assert not stitches_of(network(small_tower)).channelwise

    def test_places(self):
        after = stitches_of(numbered(network(stitches={"after": [1, 3]})))
        assert list(after.matrices) == ["stage1", "stage3"]
        assert after.values["stitch/stage3/scale0/derain<-derain"] == pytest.approx(0.04)
        shared = stitches_of(network(stitches={"shared": True}))
        assert list(shared.matrices) == ["shared"]
        once = stitches_of(network(stitches={"shared": True, "after": [2]}))
        assert list(once.matrices) == ["stage2"]

    def test_stages_that_a_search_left_without_stitches_have_none(self):
        chosen = {"fusion": "mean"}
        chosen |= {f"stitch/stage{n}": name for n, name in enumerate(["none", "layer", "none", "channel"])}
        made = network(choices=chosen, stitch="searched", fusion="searched")
        found = stitches_of(made)
        assert list(found.matrices) == ["stage1", "stage3"]
        assert found.channelwise
        chosen |= dict.fromkeys([f"stitch/stage{n}" for n in range(4)], "none")
        assert stitches_of(network(choices=chosen, stitch="searched", fusion="searched")) is None

    @pytest.mark.parametrize("options", [{"stitch": "none"}, {"tasks": ("derain",)}])
    def test_nothing_without_stitches(self, options):
        assert stitches_of(network(**options)) is None

    def test_nothing_in_a_tower(self):
        assert stitches_of(DRN.network()) is None


class TestDrawing:
    def test_every_number_in_its_place(self):
        figure = drawing.figure(stitches_of(numbered(network())))
        wanted = [[[4 * m, 4 * m + 1], [4 * m + 2, 4 * m + 3]] for m in range(4)]
        assert read_back(figure) == [[[f"{n / 100:.2f}" for n in row] for row in rows] for rows in wanted]

    def test_scales_are_below_each_other(self, small_tower):
        figure = drawing.figure(stitches_of(numbered(network(small_tower))))
        found = cells(figure)
        lefts = sorted({left for left, _ in found})
        first = [
            found[place][0] for place in sorted(found, key=lambda place: place[::-1]) if place[0] in lefts[:2]
        ]
        assert first == [f"{n / 100:.2f}" for n in range(8)]
        assert len(found) == 5 * 4
        texts = [text.get_text() for text in figure.axes[0].texts]
        assert [texts.count(name) for name in ("1", "1/2", "1/4", "stage 0", "stage 1")] == [1] * 5

    def test_colours_are_the_distance_from_the_identity(self):
        colours = [c for _, c in cells(drawing.figure(drawn(np.eye(2), [[0.9, 0.5], [0.1, 1.1]]))).values()]
        by_text = dict(cells(drawing.figure(drawn([[1, 0.5], [0.25, 0.75]]))).values())
        assert by_text["1.00"] == (1, 1, 1)
        assert colours.count((1, 1, 1)) == 4
        more, half, less = (np.array(by_text[text]) for text in ("0.50", "0.25", "0.75"))
        assert more[0] > more[2]  # vermilion
        assert less[2] > less[0]  # blue
        np.testing.assert_allclose(1 - half, (1 - more) / 2, atol=0.01)

    def test_all_maps_have_one_scale_of_colours(self):
        alone = dict(cells(drawing.figure(drawn([[1, 0.3], [0, 1]]))).values())
        beside = dict(cells(drawing.figure(drawn([[1, 0.3], [0, 1]], [[1, 0.9], [0, 1]]))).values())
        np.testing.assert_allclose(1 - np.array(beside["0.30"]), (1 - np.array(alone["0.30"])) / 3, atol=0.01)

    def test_stitches_that_hardly_exchange_are_pale(self):
        faint = dict(cells(drawing.figure(drawn([[1, 0.01], [0, 1]]))).values())
        assert min(faint["0.01"]) > 0.9

    @pytest.mark.parametrize(
        ("stages", "tasks", "inches"), [(7, 2, 3.4), (3, 3, 3.4), (9, 3, 7.1), (40, 4, 7.1)]
    )
    def test_it_is_as_wide_as_a_column_or_a_page_and_nothing_overlaps(self, stages, tasks, inches):
        names = ("derain", "desnow", "denoise", "the_most_long_winded_name_of_a_task")[:tasks]
        matrices = np.full((stages, tasks, tasks), -0.88)
        figure = drawing.figure(drawn(*matrices, tasks=names, channelwise=True))
        assert figure.get_size_inches()[0] <= inches + 1e-6
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
        width, height = figure.get_size_inches() * figure.dpi
        assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)
        if stages < 10:  # pairs of very many are slow
            assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
        assert len(cells(figure)) == matrices.size

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.9, "0.90"), (-0.004, "0.00"), (-0.05, "-0.05"), (9.999, "10.0"), (-12.34, "-12.3"), (123.4, "123")],
    )
    def test_digits(self, value, text):
        assert read_back(drawing.figure(drawn([[1, value], [1, 1]])))[0][0][1] == text

    def test_numbers_that_are_none_are_no_error(self):
        assert "nan" in read_back(drawing.figure(drawn([[np.nan, np.inf], [0.5, 1]])))[0][0]

    def test_a_mean_over_channels_is_called_so(self):
        for channelwise in (False, True):
            figure = drawing.figure(drawn(np.eye(2), channelwise=channelwise))
            said = " ".join(text.get_text() for text in figure.axes[0].texts)
            assert ("mean over channels" in said) is channelwise

    @pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
    def test_files_are_the_same_bytes(self, suffix, tmp_path):
        one, other = (
            drawing.draw_stitches(drawn(np.eye(2)), tmp_path / f"{name}.{suffix}") for name in ("a", "b")
        )
        assert one.read_bytes() == other.read_bytes()

    def test_another_suffix(self, tmp_path):
        with pytest.raises(ManasError, match="a drawing cannot be written as '.gif'; use .svg, .png, .pdf"):
            drawing.draw_stitches(drawn(np.eye(2)), tmp_path / "a.gif")
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A retraining of two stitched towers, whose stitches move fast."""
    folder = tmp_path_factory.mktemp("stitched")
    genotypes = {task: write_genotype(folder / f"{task}.json") for task in TASKS}
    sources = {"sources": [RAIN, SNOW]}
    manas.retrain(retrain_config(genotypes, run=str(folder / "run"), data=sources, stitch_rate=100))
    return folder / "run"


class TestRetraining:
    def test_the_metrics_have_them_at_the_end_of_every_epoch(self, run):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        logged = [{k: v for k, v in line.items() if k.startswith(("stitch/", "step"))} for line in lines]
        logged = [line for line in logged if any(name.startswith("stitch/") for name in line)]
        assert [line.pop("step") for line in logged] == [3, 6]
        network, _ = load_model(run / "last.safetensors")
        assert {k: v for k, v in logged[-1].items() if k != "steps_left_out"} == stitches_of(network).values
        assert logged[0] != logged[1]

    def test_tensorboard_has_them_too(self, run):
        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
        assert [event.step for event in events.Images("stitches")] == [3, 6]
        assert "stitch/stage0/scale1/desnow<-derain" in events.Tags()["scalars"]

    def test_they_are_drawn_as_they_are_at_the_end(self, run, tmp_path):
        network, _ = load_model(run / "last.safetensors")
        again = drawing.draw_stitches(stitches_of(network), tmp_path / "again.png")
        assert np.array_equal(read_image(run / "stitches.png"), read_image(again))

    def test_the_report_shows_them(self, run):
        page = (run / "report.html").read_text()
        assert page.count("<h2>Stitches</h2>") == 1
        picture = (run / "stitches.png").read_bytes()
        (run / "stitches.png").unlink()
        assert "Stitches" not in write_report(run).read_text()
        (run / "stitches.png").write_bytes(picture)

    def test_nothing_without_stitches(self, tmp_path):
        short = {"epochs": 1, "steps": 1, "data": {"sources": [RAIN, SNOW]}}
        genotypes = {task: write_genotype(tmp_path / f"{task}.json") for task in TASKS}
        manas.retrain(retrain_config(genotypes, **short, stitch="none", run=str(tmp_path / "run")))
        assert not (tmp_path / "run" / "stitches.png").exists()
        assert "stitch/" not in (tmp_path / "run" / "metrics.jsonl").read_text()
        assert "Stitches" not in (tmp_path / "run" / "report.html").read_text()
