"""Seeded searches and retrainings follow the curves that are kept in ``curves.json``: refactoring moves none.

A change that is meant to move them writes them anew: ``python tests/training/test_kept_curves.py``.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

import manas

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it, for the program below

from training.tiny_runs import RAIN, SNOW, retrain_config, search_config, write_genotype  # noqa: E402

KEPT = Path(__file__).with_name("curves.json")
TWENTY_STEPS = {"epochs": 2, "steps": 10}
SLOWLY = {"rate": 2e-4}  # by which the differences between processors stay small
NO_CLIP = {"weights": SLOWLY | {"clip": None}}

SEARCHES = {
    "softmax, first order": {},
    "softmax, accumulated, adversarial, budget, beta decay": {
        "accumulate": 2,
        "smoothing": "adversarial",
        "budget": {"macs": "2M", "size": [16, 16]},
        "beta_decay": [0, 1],
    },
    "gumbel, second order": {"relaxation": "gumbel", "order": "second"} | NO_CLIP,
    "dirichlet, single level": {"relaxation": "dirichlet", "order": "single"},
    "sigmoid, running statistics": {"relaxation": "sigmoid", "alpha_statistics": "running"},
    "random": {"method": {"kind": "random", "candidates": 2}},
    "evolution": {"method": {"kind": "evolution", "evaluations": 6, "population": 3, "tournament": 2}},
}
RETRAININGS = {
    "one tower": {},
    "stitched towers": {"data": {"sources": [RAIN, SNOW | {"family": "falling"}]}},
}


def lines(run: Path) -> list[dict[str, float]]:
    """The terms of the losses and the PSNR that a run logged, but not that of the derived network.

    Alphas that are close to one another are another argmax on another processor.
    """
    logged = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if _is_kept(key)} for line in logged]


def _is_kept(key: str) -> bool:
    return "global/" in key or "local/" in key or ("psnr" in key and "one_hot" not in key)


def curves(case: str, folder: Path) -> list[dict[str, float]]:
    run = folder / "run"
    if case in SEARCHES:
        manas.search(search_config(run=str(run), **TWENTY_STEPS, **({"weights": SLOWLY} | SEARCHES[case])))
        return lines(run)
    changes = RETRAININGS[case]
    tasks = ["derain", "desnow"] if changes else ["derain"]
    genotypes = {task: write_genotype(folder / f"{task}.json", seed=n) for n, task in enumerate(tasks)}
    manas.retrain(retrain_config(genotypes, run=str(run), optimiser=SLOWLY, **TWENTY_STEPS, **changes))
    return lines(run)


@pytest.mark.parametrize("case", [*SEARCHES, *RETRAININGS])
def test_the_curves_are_those_that_are_kept(case, tmp_path, one_thread):
    found, expected = curves(case, tmp_path), json.loads(KEPT.read_text())[case]
    assert len(found) == len(expected)
    for ours, kept in zip(found, expected, strict=True):
        # Other processors add in another order, and Adam makes much of a small gradient.
        assert ours == pytest.approx(kept, rel=0.01, abs=1e-3)


def main() -> None:
    kept = {}
    for case in [*SEARCHES, *RETRAININGS]:
        with tempfile.TemporaryDirectory() as folder:
            kept[case] = curves(case, Path(folder))
    rounded = json.loads(json.dumps(kept), parse_float=lambda text: float(f"{float(text):.6g}"))
    KEPT.write_text(json.dumps(rounded).replace("}, {", "},\n{") + "\n")  # a line a step


if __name__ == "__main__":
    main()
