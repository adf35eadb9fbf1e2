"""The tabular benchmark in small: every training once, and the table."""

import json
import sys
from pathlib import Path

import pytest
from data.archives.layouts import picture

from manas.data.images import write_image

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


def test_the_table_is_made_once_by_several_calls(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = pytest.importorskip("tabular")
    monkeypatch.setattr(program, "SEEDS", (0, 1))
    for number in range(8):
        for level in ("clean", "light", "heavy"):
            write_image(Path("pairs") / level / f"{number}.png", picture(number, len(level), (144, 136)))

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
    choices = {"stage0/full": "blocks", "stage0/half": "none", "stage0/full/kind": "naf", "stage0/gate": "cbam"}
    choices |= {"stage0/full/naf/expansion": "wide", "stage0/full/naf/wide/second": "block"}
    assert findings.counts(choices) == dict.fromkeys(["full", "naf", "cbam", "wide", "second"], 1)

    def row(place):
        scores = {
            "psnr": {"light": 30 + place, "heavy": 20 + place},
            "validation": dict.fromkeys("123456", place),
        }
        return {"choices": choices, "macs": 40 - place, "parameters": 1, "seeds": {"0": scores, "1": scores}}

    rows = list(findings.rows_of({"rows": {f"random{place}": row(place) for place in range(40)}}))
    assert findings.played(rows, findings.halving)[0] > findings.played(rows, findings.best_of_eight)[0] > 0.8
    assert findings.played(rows, findings.dearest_of_eight)[0] < 0.2
    assert dict(findings.predictors(rows))["MACs"] == pytest.approx(-1)
