"""Whole runs on a mixture: weights, clean samples and stored images leave them as exact as they are without."""

import pytest
from data.archives.layouts import folders, outdoor_rain
from searching.plainly import plainly
from training.test_resume import SMALLEST, in_folder, interrupt
from training.tiny_runs import assert_same_run, merged, retrain_config, search_config, write_genotype

import manas
from manas.data.dataset.crops import CLEAN
from manas.training import step


@pytest.fixture
def mixed(tmp_path):
    """A `data` section: three sources of unequal weight, half of the samples clean, images in a store."""
    pairs = folders("folders", "gt/{}.png", "in/{}.png", numbers=(1, 2, 3, 4)).write(tmp_path / "pairs")
    several = outdoor_rain(1, 2, 3).write(tmp_path / "several")
    capture = {"jpeg": [80, 95], "noise": [0, 2]}
    sources = [
        {"task": "derain", "pairs": str(pairs), "weight": 2},
        {"task": "desnow", "weather": "snow", "levels": ["light"], "capture": capture},
        {"task": "derain", "pairs": str(several), "weight": 3},
    ]
    store = {"cache_folder": str(tmp_path / "store"), "validation_images": 1}
    return {"data": {"sources": sources, "versions": 1, "clean_share": 0.5, **store}, "steps": 2}


def runs(folder, task, settings):
    """A function that runs search or retraining of two towers."""
    if task == "search":
        config = search_config(**merged(settings, {"space": SMALLEST, "warmup": 0, "eigenvalue_every": 0}))
        return lambda **how: manas.search(config, **how)
    genotypes = {
        name: write_genotype(folder / f"{name}.json", seed) for seed, name in enumerate(("derain", "desnow"))
    }
    config = retrain_config(genotypes, **settings)
    return lambda **how: manas.retrain(config, **how)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", ["search", "retrain"])
def test_an_interrupted_run_on_a_mixture_goes_on_exactly(task, mixed, tmp_path, monkeypatch):
    seen = []

    def watched(restoration, clean, task, *weights, **options):
        seen.extend(task.tolist())
        return step_terms(restoration, clean, task, *weights, **options)

    step_terms = step.restoration_terms
    monkeypatch.setattr(step, "restoration_terms", watched)
    with plainly():
        run = runs(tmp_path, task, mixed)
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        assert {CLEAN, 0} <= set(seen)
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        interrupt(run, 3, monkeypatch)
        run(resume=True)
    assert_same_run(resumed, reference)
    assert list((tmp_path / "store").glob("*/*.npy"))
