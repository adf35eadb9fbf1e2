"""The benchmark of equal latencies in small: every row once, resumed, and what is ahead of what."""

import json
import re
import sys
from pathlib import Path

import pytest
from data.archives.layouts import picture

from manas.data.images import write_image
from search_spaces.frontier import Frontier

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The program with a small space and two budgets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = pytest.importorskip("equal_latency")
    space = Frontier(stages=1, optional=True, width=8, blocks=("residual",))
    for name, value in {
        "SPACE": space,
        "SIZE": (32, 48),
        "BUDGETS": {"small": 1, "large": 2},
        "DRAWS": 1,
    }.items():
        monkeypatch.setattr(program, name, value)
    monkeypatch.setattr(program, "latencies", lambda of: [0.01 * (n + 1) for n in range(len(of))])
    return program


def test_every_row_is_made_once_and_compared(program, monkeypatch, capsys):
    for number in range(8):
        for level in ("clean", "light", "heavy"):
            write_image(Path("pairs") / level / f"{number}.png", picture(number, len(level), (144, 136)))

    def run(*options):
        arguments = ["equal_latency.py", "pairs", "--runs", "runs", "--quick", "--seeds", "0", *options]
        monkeypatch.setattr(sys, "argv", arguments)
        program.main()
        return capsys.readouterr().out

    assert "plain small, seed 0: light " in run("--only", "plain")
    files = {path: path.stat().st_mtime_ns for path in Path("runs").glob("**/seed*.json")}
    printed = run("--only", "plain", "searched", "random", "plain, as long", "U-Net")
    assert {path: path.stat().st_mtime_ns for path in files} == files
    rows = [
        line.split(" | ")[:3] for line in printed.splitlines() if re.match(r"\| (small|large)? \| \w", line)
    ]
    of_budgets = [
        [f"| {name}", row, "1"]
        for name in ("large", "small")
        for row in ("plain", "plain, as long", "random", "searched")
    ]
    assert sorted(rows) == [["| ", "U-Net", "1"], ["| ", "input", ""], *of_budgets]
    searched, plain, longer = (
        json.loads(Path(f"runs/{row}/large0/seed0.json").read_text())
        for row in ("searched", "plain", "plain, as long")
    )
    assert "Snow, dB" in Path("runs/front.svg").read_text()
    assert longer["steps"] == max(1, round(plain["steps"] * searched["seconds"] / plain["seconds"]))
    found = json.loads(Path("runs/searches/seed0/genotypes/front_10ms.json").read_text())
    assert found["space"]["optional"]


def test_leads_are_paired_by_seed(program):
    def result(row, seed, psnr):
        return {"row": row, "budget": "small", "seed": seed, "psnr": dict.fromkeys(program.LEVELS, psnr)}

    results = [result("searched", seed, 30 + seed) for seed in range(4)]
    results += [result("random", seed, 30 + seed - lead) for seed in range(3) for lead in (0.5, 1.5)]
    rain, snow = program.ahead(results, [each for each in results if each["row"] == "random"], "small")
    assert rain == snow == "+1.00 [+1.00, +1.00]"
    assert program.interval([0.0, 2.0, 1.0, 1.0]) == "+1.00 [-0.30, +2.30]"
    assert program.ahead(results, results[:4], "small") == ["", ""]
