"""manas genotype show | diff | draw | schema | sample | import"""

import json
import sys
import types
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from architecture.toy_spaces import NESTED, OwnTower, Plain
from rich.console import Console
from training.tiny_runs import GATES, tower, write_yaml

from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.cost.counting import measure
from manas.errors import ManasError
from manas.reporting.listing import sections
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.released import PRIMITIVES

NONE, CBAM = PRIMITIVES.index("none"), PRIMITIVES.index("cbam")
NESTED_CHOICES = {"fork0": "c1", "fork0/c1/fork0": "c1", "fork0/c1/fork1": "c0", "fork1": "c2"}
SMALL = {"kind": "multi_scale_attentive", "channels": [4, 8, 8], "columns": [2, 1]}


@pytest.fixture
def run(run):
    """A function from arguments of `manas genotype` to exit code, standard output and standard error."""
    return partial(run, "genotype")


@pytest.fixture
def succeeds(run):
    """A function that expects exit code 0, and returns what is printed."""

    def succeeds(*arguments):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return succeeds


def written(path, genotype=None, **provenance):
    genotype = genotype or Genotype.sample(tower(), seed=1)
    return genotype.model_copy(update={"provenance": provenance}).write(path)


def cells_of(text):
    """The words of every line, under the line that they stand below without indentation."""
    sections: dict = {}
    for line in filter(str.strip, text.splitlines()):
        if not line.startswith(" "):
            inside = sections.setdefault(line.strip(), [])
        else:
            inside.append(line.split())
    return sections


def shown(parts):
    """The printed parts as `cells_of` reads them."""
    with StringIO() as text:
        console = Console(file=text, width=200)
        for part in parts:
            console.print(part)
        return cells_of(text.getvalue())


class TestShow:
    """manas genotype show"""

    def test_space_provenance_and_choices(self, succeeds, tmp_path):
        genotype = Genotype.sample(tower(columns=[2]), seed=1)
        out = succeeds("show", written(tmp_path / "g.json", genotype, seed=7, psnr=31.25, data={"a": [1]}))
        sections = cells_of(out)
        assert list(sections) == ["multi_scale_attentive", "provenance", "cell0", "measured"]
        assert ["channels", "[4,", "8]"] in sections["multi_scale_attentive"]
        assert ["stem.planes", "2"] in sections["multi_scale_attentive"]
        assert sections["provenance"] == [["seed", "7"], ["psnr", "31.25"], ["data", '{"a":', "[1]}"]]
        edges = ["node0/input", "node1/input", "node1/node0"]
        chosen = genotype.choices
        assert sections["cell0"] == [
            ["column0", chosen["cell0/column0"]],
            ["column1", chosen["cell0/column1"]],
            edges,
            *([f"branch{b}", *(chosen[f"cell0/branch{b}/{edge}"] for edge in edges)] for b in (0, 1)),
        ]

    @pytest.mark.parametrize("columns", ["1", "200"])
    def test_nothing_is_cut_on_a_narrow_terminal(self, columns, succeeds, tmp_path, monkeypatch):
        genotype = Genotype.sample(load_space("manas_small"), seed=1)
        path = written(tmp_path / "g.json", genotype, note="word " * 30)
        monkeypatch.setenv("COLUMNS", "100")
        expected = [line.rstrip() for line in succeeds("show", path).splitlines()]
        monkeypatch.setenv("COLUMNS", columns)
        out = [line.rstrip() for line in succeeds("show", path).splitlines()]
        assert out == expected
        assert any(line.endswith(("word " * 30).rstrip()) for line in out)
        assert "…" not in "".join(out)
        assert len([line for line in out if line.startswith("  branch")]) == 2  # one a scale

    def test_measured_now(self, succeeds, tmp_path):
        network = Genotype.sample(tower(), seed=1).network()
        parameters = f"{sum(p.numel() for p in network.parameters()):,} parameters, "
        for provenance, given, side in [
            ({"input": [3, 8, 16], "parameters": 1, "macs": 2}, [], (8, 16)),
            ({"input": [3, 8, 16]}, ["--input", "24x16"], (24, 16)),
            ({"input": [3, 10**6, 10**6]}, [], (64, 64)),  # a received file does not ask for all memory
            ({"input": ["8", 8.5, True]}, [], (64, 64)),
        ]:
            out = succeeds("show", written(tmp_path / "g.json", **provenance), *given)
            macs = measure(network, "macs", (3, *side)) / 1e6
            assert f"{parameters}{macs:,.1f} M MACs at {side[0]}x{side[1]}\n" in out

    def test_an_input_that_the_network_does_not_take(self, fails, succeeds, tmp_path):
        path = written(tmp_path / "g.json", input=[3, 9, 9])
        says = ["3x9x9", "does not fit the network", "give another --input"]
        fails("show", path, "--input", "9x9", says=says)
        line = succeeds("show", path).splitlines()[-1]
        assert all(part in line for part in ("not measured", *says))

    @pytest.mark.parametrize("given", ["64", "64x", "0x64", "x", "64x64x3", "-8x8", "8 x 8", "many"])
    def test_an_input_that_is_no_size(self, given, fails, tmp_path):
        fails("show", written(tmp_path / "g.json"), f"--input={given}", says=["--input", given, "64x96"])

    def test_a_whole_network(self, succeeds, tmp_path):
        towers = {"derain": tower(), "desnow": tower()}
        space = RestorationSpace(towers=towers, stitch="searched", fusion="searched")
        genotype = Genotype.sample(space, seed=2)
        sections = cells_of(succeeds("show", written(tmp_path / "g.json", genotype, derain={"seed": 0})))
        own = ["derain/cell0", "desnow/cell0", "choices", "measured"]
        assert list(sections) == ["restoration", "provenance", *own]
        assert ["towers.desnow.channels", "[4,", "8]"] in sections["restoration"]
        assert sections["desnow/cell0"][0] == ["column0", genotype.choices["desnow/cell0/column0"]]
        labels = ("stitch/stage0", "fusion")
        assert sections["choices"] == [[label, genotype.choices[label]] for label in labels]

    def test_labels_that_begin_alike_are_a_section_whatever_they_are_called(self):
        choices = {
            "body/depth": "4",
            "body/left/x": "a",
            "body/left/y/z": "b",
            "body/right/x": "c",
            "head": "d",
        }
        assert shown(sections(choices)) == {
            "body": [["depth", "4"], ["x", "y/z"], ["left", "a", "b"], ["right", "c"]],
            "choices": [["head", "d"]],
        }
        network = {f"derain/{label}": name for label, name in choices.items()} | {"stitch/stage0": "none"}
        found = shown(sections(network, ["derain"]))
        assert list(found) == ["derain/body", "choices"]
        assert found["choices"] == [["derain/head", "d"], ["stitch/stage0", "none"]]

    def test_forks_inside_a_fork_are_a_plain_list(self):
        choices = {"body": "deep", "body/depth": "4", "body/left/x": "a"}
        assert shown(sections(choices)) == {"choices": [[*item] for item in choices.items()]}

    def test_labels_of_any_space_are_a_plain_list(self, succeeds, tmp_path):
        genotype = Genotype(space=NESTED, choices=NESTED_CHOICES)
        path = written(tmp_path / "g.json", genotype)
        sections = cells_of(succeeds("show", path, "--space", "architecture.toy_spaces:Tree"))
        assert sections["choices"] == [[label, name] for label, name in genotype.choices.items()]

    def test_a_space_without_forks(self, succeeds, tmp_path):
        path = written(tmp_path / "g.json", Genotype.sample(Plain(), seed=0))
        sections = cells_of(succeeds("show", path, "--space", "architecture.toy_spaces:Plain"))
        assert list(sections) == ["architecture.toy_spaces:Plain", "measured"]

    def test_run_directory_checkpoint_and_model_file(self, succeeds, tmp_path):
        genotype = Genotype.sample(RestorationSpace(towers={"derain": tower()}), seed=1)
        expected = succeeds("show", written(tmp_path / "run" / "genotype.json", genotype))
        assert succeeds("show", tmp_path / "run") == expected
        model = tmp_path / "model.safetensors"
        save_model(
            model,
            genotype.network(),
            ModelDescription(genotype=Genotype.read(tmp_path / "run" / "genotype.json")),
        )
        assert succeeds("show", model) == expected
        text = (tmp_path / "run" / "genotype.json").read_text()
        state = {"format": "manas.checkpoint/1", "kind": "retrain", "genotype": text}
        torch.save(state, tmp_path / "checkpoint.pt")
        assert succeeds("show", tmp_path / "checkpoint.pt") == expected

    def test_texts_of_the_file_are_taken_literally(self, succeeds, tmp_path):
        """No markup of rich, and nothing that a terminal obeys."""
        notes = {"note": "[red]danger[/red] :smile:", "evil": "\x1b[2Jgone", "\x1b[1mkey": "two\nlines"}
        out = succeeds("show", written(tmp_path / "g.json", **notes))
        assert "[red]danger[/red] :smile:" in out
        assert "\x1b" not in out
        assert '"\\u001b[2Jgone"' in out
        assert '"two\\nlines"' in out

    def test_no_genotype_is_one_line(self, fails, tmp_path):
        fails("show", tmp_path / "none.json", says=["none.json", "cannot be read"])
        fails("show", tmp_path, says=[str(tmp_path), "no run"])


class TestDiff:
    """manas genotype diff"""

    def test_equal(self, run, tmp_path):
        a, b = written(tmp_path / "a.json", seed=1), written(tmp_path / "b.json", seed=2)
        assert run("diff", a, b) == (0, "0 of 7 choices differ\n", "")

    def test_different(self, run, tmp_path):
        one = Genotype.sample(tower(), seed=1)
        name = {"fusion": "parallel", "parallel": "fusion"}[one.choices["cell0/column0"]]
        other = one.model_copy(update={"choices": one.choices | {"cell0/column0": name}})
        code, out, _ = run("diff", written(tmp_path / "a.json", one), written(tmp_path / "b.json", other))
        table, last = out.splitlines()[:-1], out.splitlines()[-1]
        assert code == 1
        assert last == "1 of 7 choices differ"
        assert [line.split() for line in table] == [
            ["label", "A", "B"],
            ["cell0/column0", one.choices["cell0/column0"], name],
        ]

    def test_labels_that_one_has_alone_and_fields(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        one, other = Genotype.sample(tower(), seed=1), Genotype.sample(tower(columns=[2], norm="layer"), seed=1)
        other = Genotype(space=other.space, choices=one.choices | {"cell0/column1": "fusion"})
        code, out, _ = run("diff", written(tmp_path / "a.json", one), written(tmp_path / "b.json", other))
        lines = [line.split() for line in out.splitlines()]
        assert code == 1
        assert ["cell0/column1", "-", "fusion"] in lines
        assert ["space.columns", "[1]", "->", "[2]"] in lines
        assert ["space.norm", '"batch"', "->", '"layer"'] in lines
        assert out.endswith("\n1 of 8 choices differ\n")

    def test_fields_alone_are_a_difference(self, run, tmp_path):
        one = Genotype.sample(tower(), seed=1)
        other = Genotype(space=tower(channels=[8, 8]), choices=one.choices)
        code, out, _ = run("diff", written(tmp_path / "a.json", one), written(tmp_path / "b.json", other))
        assert code == 1
        assert "[4, 8] -> [8, 8]" in out
        assert out.endswith("0 of 7 choices differ\n")

    def test_a_file_that_is_not_there_is_one_line(self, fails, tmp_path):
        path = written(tmp_path / "a.json")
        fails("diff", path, tmp_path / "b.json", says=["b.json", "cannot be read"])

    def test_a_space_that_is_not_installed(self, fails, run, tmp_path):
        path = written(tmp_path / "a.json", Genotype.sample(OwnTower(), seed=0))
        fails("diff", path, path, says=["may not name code"])
        assert run("diff", path, path, "--space", "architecture.toy_spaces:OwnTower")[0] == 0


class TestDraw:
    """manas genotype draw"""

    @pytest.fixture(autouse=True)
    def drawn(self, monkeypatch):
        """What a stand-in for the drawing was called with."""
        calls = []

        def draw(genotype, path):
            if path.suffix != ".svg":
                raise ManasError(f"{path}: cannot draw {path.suffix}; give .svg")
            calls.append(genotype)
            return path

        monkeypatch.setitem(sys.modules, "manas.reporting.drawing.figure", types.SimpleNamespace(draw=draw))
        return calls

    def test_the_genotype_of_the_file_is_drawn(self, drawn, succeeds, tmp_path):
        path, out = written(tmp_path / "g.json"), tmp_path / "picture.svg"
        assert succeeds("draw", path, out) == f"{out}\n"
        assert drawn == [Genotype.read(path)]

    def test_a_picture_that_cannot_be_drawn_is_one_line(self, fails, tmp_path):
        fails("draw", written(tmp_path / "g.json"), tmp_path / "g.gif", says=["g.gif", "give .svg"])


class TestSample:
    """manas genotype sample"""

    def test_it_is_that_of_the_seed(self, succeeds, tmp_path):
        space = load_space("manas_tiny")
        out = tmp_path / "new" / "g.json"
        for seed in (0, 5):
            assert succeeds("sample", "manas_tiny", out, "--seed", seed) == f"{out}\n"
            assert Genotype.read(out) == Genotype.sample(space, seed)
        assert Genotype.sample(space, 0).choices != Genotype.sample(space, 5).choices

    def test_any_reference_of_a_space(self, succeeds, tmp_path):
        out = tmp_path / "g.json"
        succeeds("sample", write_yaml(tmp_path / "space.yaml", SMALL), out, "--seed", 1)
        assert Genotype.read(out).space == load_space(SMALL)
        succeeds("sample", "architecture.toy_spaces:OwnTower", out, "--seed", 1)
        assert Genotype.read(out, space=OwnTower).space == OwnTower()

    def test_bad_input(self, fails, run, tmp_path):
        out = tmp_path / "g.json"
        fails("sample", "manas_tinny", out, says=["'manas_tinny'", "did you mean 'manas_tiny'"])
        assert run("sample", "manas_tiny", out, "--seed", "-1")[0] == 2
        assert not out.exists()


def logits(rows, width, *candidates):
    """Row r prefers candidates[r], the first of them in all rows beyond."""
    table = torch.zeros(rows, width)
    for row in range(rows):
        table[row, candidates[row] if row < len(candidates) else candidates[0]] = 1.0
    return table


def saved(path, columns=3, edges=15, **more):
    """A checkpoint whose columns are all `fusion` and whose edges have candidates 1, 2, 3, ..., 8, 1, 2, ..."""
    every = [1 + row % 8 for row in range(edges)]
    content = {"arch_param": logits(columns, 2, 1), "auto_param": logits(edges, 9, *every)}
    torch.save({"epoch": 4, "state_dict": {"weight": torch.zeros(2)}} | content | more, path)
    return path


class TestImport:
    """manas genotype import"""

    @pytest.fixture
    def small(self, tmp_path):
        """Three columns, fifteen edges."""
        return write_yaml(tmp_path / "space.yaml", SMALL)

    @pytest.fixture
    def imported(self, succeeds, small, tmp_path):
        def imported(path, *options):
            out = tmp_path / "out" / "g.json"
            assert succeeds("import", path, out, "--space", small, *options) == f"{out}\n"
            return Genotype.read(out)

        return imported

    def test_at_paper_size(self, succeeds, tmp_path):
        """Parameters and MACs as counted on the released network, without its operations that are never run."""
        path = saved(tmp_path / "best_psnr_weights.pt", 12, 27, auto_param=logits(27, 9, CBAM))
        succeeds("import", path, tmp_path / "g.json")
        genotype = Genotype.read(tmp_path / "g.json")
        assert genotype.space == load_space("manas")
        assert set(genotype.choices.values()) == {"fusion", "cbam"}
        provenance = dict(genotype.provenance)
        assert provenance.pop("macs") == measure(genotype.network(), "macs")
        assert provenance == {
            "manas": provenance["manas"],
            "torch": torch.__version__,
            "imported_from": "best_psnr_weights.pt",
            "reading": "searched",
            "parameters": 4_724_520,
            "input": [3, 64, 64],
        }

    def test_searched_gives_every_row_to_its_own_edge(self, imported, tmp_path):
        path = saved(tmp_path / "c.pt")
        genotype = imported(path)
        assert genotype == imported(path, "--as", "searched")
        assert "rows_shared" not in genotype.provenance
        edges = [name for label, name in genotype.choices.items() if "branch" in label]
        assert edges == [PRIMITIVES[1 + row % 8] for row in range(15)]

    def test_released_shares_the_rows_that_were_read(self, imported, tmp_path):
        genotype = imported(saved(tmp_path / "c.pt"), "--as", "released")
        assert genotype.provenance["reading"] == "released"
        assert genotype.provenance["rows_shared"] is True
        edges = [name for label, name in genotype.choices.items() if "branch" in label]
        assert edges == [PRIMITIVES[row] for row in 2 * (1, 2, 3) + 3 * (4, 5, 6)]

    def test_only_searched_keeps_every_node_alive(self, imported, tmp_path):
        """Row 0 prefers `none` to cbam to the rest; rows 1 and 2 alike, but row 2 not by as much."""
        table = logits(15, 9, NONE)
        table[:, CBAM] = 0.5
        table[2::3, CBAM] = 0.75
        path = saved(tmp_path / "c.pt", auto_param=table)
        branch = ("node0/input", "node1/input", "node1/node0")
        chosen = {reading: imported(path, "--as", reading).choices for reading in ("searched", "released")}
        for label in ("cell0/branch1", "cell1/branch2"):
            assert [chosen["searched"][f"{label}/{edge}"] for edge in branch] == ["cbam", "none", "cbam"]
            assert [chosen["released"][f"{label}/{edge}"] for edge in branch] == ["none"] * 3

    def test_lists_as_in_the_last_checkpoint(self, imported, tmp_path):
        content = torch.load(saved(tmp_path / "best.pt"), weights_only=True)
        lists = {key: [content[key].requires_grad_()] for key in ("arch_param", "auto_param")}
        last = saved(tmp_path / "last.pt", **lists)
        assert imported(last).choices == imported(tmp_path / "best.pt").choices

    @pytest.mark.parametrize("zipped", [True, False])
    def test_tensors_that_were_saved_on_a_gpu(self, zipped, imported, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
            content = {"arch_param": logits(3, 2, 0), "auto_param": logits(15, 9, 2)}
            torch.save(content, tmp_path / "gpu.pt", _use_new_zipfile_serialization=zipped)
        assert b"cuda:1" in (tmp_path / "gpu.pt").read_bytes()
        assert set(imported(tmp_path / "gpu.pt").choices.values()) == {"parallel", "sep_conv_3x3"}

    def test_measured_at_another_input(self, imported, tmp_path):
        genotype = imported(saved(tmp_path / "c.pt"), "--input", "16x24")
        assert genotype.provenance["input"] == [3, 16, 24]
        assert genotype.provenance["macs"] == measure(genotype.network(), "macs", (3, 16, 24))

    def test_options_that_do_not_fit(self, fails, small, tmp_path):
        path, out = saved(tmp_path / "c.pt"), tmp_path / "g.json"
        fails("import", path, out, says=["c.pt", "'arch_param' is 3 x 2", "need 12 x 2", "--space"])
        fails("import", path, out, "--as", "realeased", says=["'realeased'", "did you mean 'released'"])
        fails("import", path, out, "--space", "manass", says=["did you mean 'manas'"])
        given = write_yaml(tmp_path / "few.yaml", SMALL | {"attention": {"gates": GATES}})
        fails("import", path, out, "--space", given, says=["c.pt", ", ".join(GATES), "cbam"])
        fails("import", path, out, "--space", "architecture.toy_spaces:Plain", says=["c.pt", "no importer"])
        fails("import", path, out, "--space", small, "--input", "9x9", says=["3x9x9", "does not fit"])
        assert not out.exists()

    def test_content_that_does_not_fit(self, fails, small, tmp_path):
        nan = logits(15, 9, 0)
        nan[4] = float("nan")
        path, out = tmp_path / "c.pt", tmp_path / "g.json"
        for content, says in [
            ({"epoch": 1, "model": {}}, ["no 'arch_param'", "'epoch', 'model'"]),
            ([logits(3, 2, 0)], ["holds a list"]),
            (logits(3, 2, 0), ["holds a Tensor"]),
            ({"arch_param": logits(3, 2, 0), "auto_param": nan}, ["'auto_param' is NaN or infinite in row 4;"]),
        ]:
            torch.save(content, path)
            fails("import", path, out, "--space", small, says=["c.pt", *says])
        assert not out.exists()

    @pytest.mark.parametrize("content", [None, b"", b"no checkpoint", b"PK\x03\x04" + bytes(60), "half", "dir"])
    def test_a_file_that_is_no_checkpoint(self, content, fails, small, tmp_path):
        path, says = tmp_path / "file.pt", "damaged or not a checkpoint"
        if content == "half":
            content = saved(path).read_bytes()[:500]
        if content == "dir":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        if not path.is_file():
            says = "cannot be read"
        fails("import", path, tmp_path / "g.json", "--space", small, says=[str(path), says])


class Calls:
    """A pickle of it calls a function when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dangerous", [Calls, lambda path: torch.nn.Linear(1, 1), np.float64])
def test_a_checkpoint_that_needs_unpickling_is_refused(dangerous, zipped, fails, tmp_path):
    proof = 7.5 if dangerous is np.float64 else tmp_path / "it_ran"
    content = {"arch_param": logits(12, 2, 0), "epoch": dangerous(proof)}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    says = ["c.pt", "refused", "run code", "arch_param and auto_param"]
    fails("import", tmp_path / "c.pt", tmp_path / "g.json", says=says)
    assert not (tmp_path / "it_ran").exists()


def test_another_pickle_protocol_runs_nothing_either(fails, tmp_path, recwarn):
    torch.save({"arch_param": Calls(tmp_path / "it_ran")}, tmp_path / "c.pt", pickle_protocol=4)
    fails("import", tmp_path / "c.pt", tmp_path / "g.json", says=["c.pt", "pickle protocol"])
    assert not (tmp_path / "it_ran").exists()
    assert [str(warning.message) for warning in recwarn] == []  # which would be more lines


def test_the_schema_fits_what_is_written(succeeds, tmp_path):
    schema = json.loads(succeeds("schema"))
    assert set(json.loads(written(tmp_path / "g.json").read_text())) == set(schema["properties"])


def test_the_help_names_every_tool(succeeds):
    out = succeeds("--help")
    assert [name for name in ("show", "diff", "draw", "schema", "sample", "import") if name not in out] == []
