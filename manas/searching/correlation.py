"""How well the one-hot scores of a supernet rank what its architectures are worth alone.

Architectures are drawn at random, scored one-hot in the supernet, and trained shortly alone, each with several
seeds; trainings of one seed see the same batches in the same order.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence

import torch

from manas.architecture.choice import relaxed_by
from manas.architecture.weighting import OneHot
from manas.cost.counting import measure
from manas.files import replacing
from manas.reporting.progress import Progress
from manas.searching.alone import TrainingAlone
from manas.searching.config import CorrelationConfig
from manas.searching.method import SupernetSearch
from manas.searching.rank_correlation import Row, rank_correlations, sentence_on
from manas.searching.synflow import synflow

FILE = "correlation.json"
DRAWS = 50  # for each architecture, until it differs from the others
FEWEST = 4  # architectures that can be ranked


def correlate(search: SupernetSearch, progress: Progress) -> None:
    """Adds the rank correlations to the provenance of a search that asks for them, and to its verdict.

    A resumed run goes on after the last training that was completed. The compute does not count, since the
    result of the search does not come from it.
    """
    config = search.config.correlation
    if config is None:
        return
    drawn = _draws(search, config.architectures)
    if len(drawn) < FEWEST:
        search.findings.append(f"correlation: {len(drawn)} architectures are too few to be ranked")
        return
    with search.meter.resting():
        rows = [_row(search, choices) for choices in drawn]
        _train(search, config, rows, progress)
    taus = rank_correlations(rows, search.config.seed)
    sizes = {"architectures": len(rows), "steps": config.steps, "seeds": config.seeds}
    search.provenance["correlation"] = sizes | {name: [round(x, 4) for x in tau] for name, tau in taus.items()}
    search.findings.append(sentence_on(taus, sizes))


def _draws(search: SupernetSearch, count: int) -> list[dict[str, str]]:
    """Random architectures that differ; fewer, if the space hardly has as many."""
    rng, found = random.Random(f"{search.config.seed}/correlation"), list[dict[str, str]]()
    for _ in range(DRAWS * count):
        choices = search.architectures.sample(rng)
        if choices not in found:
            found.append(choices)
        if len(found) == count:
            break
    return found


def _row(search: SupernetSearch, choices: Mapping[str, str]) -> Row:
    config, shape = search.config, (3, search.config.data.patch, search.config.data.patch)
    with relaxed_by(search.network, OneHot(choices)):
        one_hot = search.data.psnr(search.network, training=config.alpha_statistics == "batch")
    torch.manual_seed(config.seed)
    network = config.space.network(choices)
    predictors = {
        "one_hot": one_hot,
        "macs": measure(network, "macs", shape),
        "parameters": measure(network, "parameters"),
        "synflow": synflow(network, shape),
    }
    finite = {name: value if math.isfinite(value) else None for name, value in predictors.items()}
    return {"choices": dict(choices), **finite, "alone": []}


def _train(search: SupernetSearch, config: CorrelationConfig, rows: Sequence[Row], progress: Progress) -> None:
    """Trains every architecture alone with every seed, and keeps each score in the run directory."""
    for row, before in zip(rows, _kept(search), strict=False):
        row["alone"] = before["alone"]
    for seed in range(config.seeds):
        for number, row in enumerate(rows):
            if len(row["alone"]) > seed:
                continue
            psnr = _psnr_alone(search, row, config.steps, seed)
            row["alone"].append(psnr if math.isfinite(psnr) else None)
            progress.say(f"correlation: architecture {number} alone, seed {seed}: {psnr:.2f} dB")
            if search.process.is_first:
                with replacing(search.directory.path / FILE) as temporary:
                    temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _kept(search: SupernetSearch) -> list[Row]:
    """The architectures of a run that is resumed, with the trainings that were completed."""
    file, rows = search.directory.path / FILE, []
    if search.process.is_first and search.directory.can_resume and file.exists():
        rows = json.loads(file.read_text(encoding="utf-8"))
    return search.process.share(rows)


def _psnr_alone(search: SupernetSearch, row: Row, steps: int, seed: int) -> float:
    steps = steps if row["macs"] else 0  # such a network has nothing to learn, and perhaps no weights
    # Every seed has a stretch of the stream of its own, which all architectures share.
    training = TrainingAlone(search, row["choices"], steps, seed=search.config.seed + seed, first=seed * steps)
    for _ in range(steps):
        training.step()
    training.left_out()  # raises after many broken steps in a row
    return training.score()
