"""The table of systems in small: every kind of row, made in parts, resumed, never with other settings."""

import sys
from pathlib import Path

import pytest
import yaml
from data.archives.layouts import did_mdn, picture

from manas.data.images import read_image, write_image

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
TOWERS = {"derain": "manas_tiny", "desnow": "manas_tiny"}
DRN = {"derain": "drn.yaml", "desnow": "drn.yaml"}
JOINT = {"kind": "restoration", "towers": DRN, "stitch": "searched", "fusion": "searched"}
CONFIG = {
    "report": 1,
    "data": {"versions": 2, "patch": 16, "validation_patch": 16, "batch": 1, "workers": 0},
    "search": {"method": "gradient", "epochs": 1, "steps": 1, "warmup": 0},
    "retrain": {"epochs": 1, "steps": 2},
    "systems": [
        {"name": "DRN x 2", "towers": DRN, "alone": True, "retrain": {"loss": {"stages": 0.1}}},
        {"name": "random", "towers": TOWERS, "random": True, "seeds": [0, 1]},
        {"name": "searched", "towers": TOWERS},
        {"name": "plain", "towers": {"restore": "plain"}, "retrain": {"steps": 3}},
        {"name": "joint", "joint": "joint.yaml"},
    ],
}


@pytest.fixture
def systems(tmp_path, monkeypatch, capsys):
    """Runs the program with a configuration and further arguments: what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = pytest.importorskip("systems")
    for number in range(8):
        for level in ("clean", "light", "heavy"):
            write_image(Path("pairs") / level / f"{number}.png", picture(number, len(level)))
    Path("drn.yaml").write_text("{kind: dual_recursive, channels: 4, stages: 2, recursions: 1}")
    Path("joint.yaml").write_text(yaml.safe_dump(JOINT))
    monkeypatch.setattr(program, "SIZE", (32, 48))
    monkeypatch.setattr(program.torch, "set_num_threads", lambda _: None)

    def run(config, *arguments):
        Path("systems.yaml").write_text(yaml.safe_dump(config))
        monkeypatch.setattr(sys, "argv", ["systems.py", "systems.yaml", "pairs", "--runs", "runs", *arguments])
        program.main()
        return capsys.readouterr().out

    return run


def test_rows_are_made_once_and_from_one_configuration(systems, capsys):
    assert "| system |" not in systems(CONFIG, "--only", "random", "DRN x 2")
    models = {path: path.stat().st_mtime_ns for path in Path("runs").glob("**/model.safetensors")}
    assert len(models) == 4  # two towers alone, two seeds

    printed = systems(CONFIG)
    assert {path: path.stat().st_mtime_ns for path in models} == models
    table = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in table] == [
        "system",
        "degraded input",
        "DRN x 2",
        "random",
        "searched",
        "plain",
        "joint",
    ]
    assert [row[1] for row in table[1:]] == ["2", "1", "2", "1", "1", "1"]
    assert " to " in table[3][6]
    assert table[2][-1] == " |"  # DRN x 2 is told the task; a clean picture has none
    assert printed[printed.index("\n| ") :].count("|") == 11 * 8

    for config, arguments, message in (
        (CONFIG | {"retrain": {"epochs": 1, "steps": 3}}, (), "differs from the configuration given"),
        (CONFIG | {"report": 2}, (), "scenes of another partition"),
        (
            CONFIG | {"systems": [{"name": "a", "stich": "none"}]},
            (),
            "unknown key 'stich'; did you mean 'stitch'",
        ),
        (CONFIG, ("--only", "serched"), "no system is called 'serched'; did you mean 'searched'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            systems(config, *arguments)
        assert message in capsys.readouterr().err


def test_every_seed_reports_on_scenes_of_its_own(systems):
    systems(CONFIG, "--only", "random")
    reported = [{path.name for path in Path(f"runs/data/seed{n}/report/clean").iterdir()} for n in (0, 1)]
    trained = [{path.name for path in Path(f"runs/data/seed{n}/train/clean").iterdir()} for n in (0, 1)]
    assert not reported[0] & reported[1]
    assert not any(one & other for one, other in zip(reported, trained, strict=True))


def test_towers_of_a_random_row_differ_by_task_and_seed(systems):
    systems(CONFIG, "--only", "random")
    drawn = [path.read_text() for path in Path("runs/drawn").glob("manas_tiny_*.json")]
    assert len(set(drawn)) == 4


def test_the_halves_of_a_file_are_two_pictures(systems, tmp_path):
    import systems as program

    bench = program.Bench(CONFIG, did_mdn().write(tmp_path / "halves"), tmp_path / "parted")
    for level in ("clean", "light", "heavy"):
        train, _ = bench.parted(0)
        shapes = {read_image(path).shape for path in (train / level).iterdir()}
        assert {(height, width) for height, width, _ in shapes} == {(32, 32)}, level
