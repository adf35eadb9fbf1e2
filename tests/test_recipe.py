"""The table of the recipe in small: each kind of row, made once."""

import sys
from pathlib import Path

import pytest
from data.archives.layouts import picture

from manas.data.images import write_image

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
ROWS = ("plain", "8 x 2, internal loss", "norm batch, statistics running", "not augmented")


@pytest.fixture
def recipe(tmp_path, monkeypatch, capsys):
    """Runs the program with some rows: the lines of the table that it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = pytest.importorskip("recipe")
    for number in range(8):
        for level in ("clean", "light", "heavy"):
            write_image(Path("pairs") / level / f"{number}.png", picture(number, len(level), (144, 136)))

    def run(*rows):
        arguments = ["recipe.py", "pairs", "--runs", "runs", "--quick", "--only", *rows]
        monkeypatch.setattr(sys, "argv", arguments)
        program.main()
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]

    return run


def test_rows_are_made_once(recipe):
    table = recipe(*ROWS)
    assert [line.split(" | ")[0] for line in table] == [
        "| row",
        "| degraded input",
        *(f"| {row}" for row in ROWS),
    ]
    files = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/*.result.json")}
    assert len(files) == len(ROWS)
    assert recipe(*ROWS) == table
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_every_row_is_a_configuration(recipe, tmp_path):
    import recipe as program

    from manas.training.config import RetrainConfig

    for name in program.ROWS:
        settings = program.configuration(name, 0, Path("pairs"), tmp_path / "run", 4)
        assert RetrainConfig.model_validate(settings).precision in ("bf16", "float32")
