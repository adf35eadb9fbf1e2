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
