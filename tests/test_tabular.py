"""The tabular benchmark in small: every training once, and the table."""

import json
import re
import sys
from pathlib import Path

import pytest
from data.archives.layouts import picture

from manas.data.images import write_image
from manas.searching.config import SearchConfig

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
CHOICES = {"stage0/full": "blocks", "stage0/half": "none", "stage0/full/kind": "naf", "stage0/gate": "cbam"}
CHOICES |= {"stage0/full/naf/expansion": "wide", "stage0/full/naf/wide/second": "block"}


def write_pairs(folder):
    for number in range(8):
        for level in ("clean", "light", "heavy"):
            write_image(folder / level / f"{number}.png", picture(number, len(level), (144, 136)))


def row(place):
    """A row of the table that is the better and the cheaper, the later its place."""
    scores = {
        "psnr": {"light": 30 + place, "heavy": 20 + place},
        "validation": dict.fromkeys("123456", place),
    }
    return {"choices": CHOICES, "macs": 40 - place, "parameters": 1, "seeds": {"0": scores, "1": scores}}


def test_the_table_is_made_once_by_several_calls(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = pytest.importorskip("tabular")
    monkeypatch.setattr(program, "SEEDS", (0, 1))
    write_pairs(Path("pairs"))

    def run(*options):
        arguments = ["tabular.py", "pairs", "--runs", "runs", "--quick", "--architectures", "1", *options]
        monkeypatch.setattr(sys, "argv", arguments)
        program.main()
        return capsys.readouterr().out.splitlines()

    part = run("--part", "1/2")
    files = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/seed*.json")}
    assert len(files) == len(part) == 4
    assert len(run()) == 8
    assert {path: path.stat().st_mtime_ns for path in files} == files
    rows = json.loads(Path("runs/table.json").read_text())["rows"]
    assert list(rows) == ["plain", "residual", "U-Net", "random000"]
    for row in rows.values():
        assert min(row["parameters"], row["macs"]) > 0
        assert set(row["seeds"]) == {"0", "1"}
        for seed in row["seeds"].values():
            assert set(seed["psnr"]) == {"light", "heavy"}
            assert list(seed["validation"]) == ["4"]


def test_the_findings_count_and_play(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    findings = pytest.importorskip("tabular_findings")
    monkeypatch.setattr(findings, "DRAWS", 50)
    assert findings.counts(CHOICES) == dict.fromkeys(["full", "naf", "cbam", "wide", "second"], 1)

    rows = list(findings.rows_of({"rows": {f"random{place}": row(place) for place in range(40)}}))
    assert findings.played(rows, findings.halving)[0] > findings.played(rows, findings.best_of_eight)[0] > 0.8
    assert findings.played(rows, findings.dearest_of_eight)[0] < 0.2
    assert dict(findings.predictors(rows))["MACs"] == pytest.approx(-1)


class TestSearchOnTheTable:
    """Searches beside the table."""

    @pytest.fixture
    def program(self, monkeypatch):
        monkeypatch.syspath_prepend(BENCHMARKS)
        return pytest.importorskip("search_on_table")

    def test_what_is_found_is_trained_and_compared(self, program, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        write_pairs(Path("pairs"))
        rows = {f"random{place}": row(place) | {"macs": 10**9} for place in range(20)}
        Path("runs").mkdir()
        Path("runs/table.json").write_text(json.dumps({"rows": rows | {"dear": row(99) | {"macs": 10**10}}}))
        arguments = ["search_on_table.py", "pairs", "--runs", "runs", "--quick", "--seeds", "1"]
        monkeypatch.setattr(sys, "argv", [*arguments, "--only", "surrogate"])
        program.main()
        found, *table = capsys.readouterr().out.splitlines()
        assert found.startswith("surrogate, seed 0: ")
        assert "20 random architectures of at most 3.5 GMAC" in table
        assert table[-1].startswith("| surrogate | ")
        genotype = json.loads(Path("runs/surrogate 3.5/search0/genotype.json").read_text())
        assert genotype["provenance"]["method"] == "surrogate"

    def test_every_row_is_the_method_of_its_name(self, program):
        for name, settings in program.METHODS.items():
            config = SearchConfig.model_validate(program.BASE | settings)
            assert name.startswith(config.method.kind)

    def test_chance_is_no_better_than_chance(self, program):
        rows = list(program.rows_of({"rows": {f"random{place}": row(place) for place in range(40)}}))
        best = program.compared([rows[-1].quality] * 5, rows, 9)
        assert "| 98% | 5 of 5 |" in best
        assert program.affordable(8.5 * 480 * 16 * 64**2 / (320 * 480) * 3 * 20.5, rows) == 9  # 1 to 40 MACs
        low, high = interval(best)
        assert 0 < low <= high
        low, high = interval(program.compared([rows[n].quality for n in (3, 11, 20, 28, 36)], rows, 9))
        assert high < 0  # one architecture each, against the best of nine


def interval(text):
    return [float(number) for number in re.search(r"\[(.*), (.*)\]", text).groups()]
