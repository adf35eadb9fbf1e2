"""The model card: a description of a model file for the people who receive it.

Every statement is read from the file or derived from its content; the card calls unknown what the file leaves
out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from manas.architecture.decided import Decided
from manas.architecture.registry import kind_of
from manas.architecture.space import SearchSpace
from manas.cost.counting import costs
from manas.errors import ManasError
from manas.evaluation.results import Evaluation
from manas.evaluation.summary import summarised
from manas.evaluation.tables import Table
from manas.exporting.card_images import images_of, literal, shortcomings
from manas.exporting.front_matter import front_matter
from manas.files import replacing
from manas.reporting.size import size
from manas.restoration.model_file import ModelDescription, load_model, model_file
from manas.restoration.network import RestorationSpace
from manas.training.guard import left_out_of

COUNTED_AT = (3, 64, 64)
SHORTEST_PAPER = 37_500  # steps: experiments/configs/paper/drn_rain100l.yaml
UNKNOWN = "Unknown: the file does not say."
VALIDATION = (
    "Validation while training: mean PSNR-Y of the blind output in dB, on crops of backgrounds that were kept "
    "apart from those trained on"
)
# The keys of the training's summary that other sections or sentences of the card tell.
ELSEWHERE = {
    *("parameters", "macs", "input", "validation", "backgrounds", "steps_left_out", "broken_gradients"),
    *("license", "credit"),
}

USE = """\
    manas restore photo.jpg -o restored --model {name}

```python
import manas

restorer = manas.Restorer.load("{name}")
restored = restorer(picture)  # a PIL image, an array (H, W, 3) or a tensor (B, 3, H, W); the same comes back
```"""

NO_LICENCE = """\
unknown, the file names none; ask whoever gave it to you, and mind the licences of the training images"""


def write_card(
    source: str | Path,
    out: str | Path,
    *,
    evaluation: str | Path | None = None,
    space: type[SearchSpace] | None = None,
) -> Path:
    """Writes the model card in Markdown; an interruption leaves no incomplete file.

    Args:
        source: the model file, ``model.safetensors``, or the run directory that holds it.
        out: the path of the card, which ends in ``.md``.
        evaluation: a file of scores that ``manas evaluate --csv`` wrote.
        space: the class of a space that no entry point names.

    Raises:
        ManasError: for a file that is no model, or for scores that cannot be read or belong to another model.
    """
    source, out = model_file(source), Path(out)
    network, description = load_model(source, space=space)
    scored = _scores_of(source, Path(evaluation)) if evaluation else None
    text = "\n\n".join(_sections(source, network, description, scored)) + "\n"
    with replacing(out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return out


def _scores_of(source: Path, path: Path) -> Evaluation:
    """Reads scores; refuses those that name another model than `source`."""
    scored = Evaluation.from_csv(path)
    if scored.model and not _same_file(Path(scored.model), source):
        raise ManasError(f"{path}: scores of {scored.model}, not of {source.name}; give those of this model")
    return scored


def _same_file(path: Path, source: Path) -> bool:
    """Whether two paths name one file; by their names alone if the file `path` is no longer there."""
    return path.samefile(source) if path.exists() else path.name == source.name


def _sections(
    source: Path, network: nn.Module, description: ModelDescription, scored: Evaluation | None
) -> Iterator[str]:
    tasks = ", ".join(_space(description).towers)
    yield front_matter(source.stem, description, scored)
    yield f"# Restoration network: {tasks}"
    yield _identity(source)
    yield from ("## Architecture", _architecture(network, description))
    yield from ("## Training", _bullets(_training(description)))
    yield from ("## Training images", _bullets(images_of(description)))
    yield from ("## Scores", *_scores(description, scored))
    yield from ("## Limits", _bullets(_limits(description, scored)))
    yield from ("## Use", USE.format(name=source.name))
    yield from ("## Licence", _licence(description))


def _licence(description: ModelDescription) -> str:
    licence = description.training.get("license")
    return f"Of the weights: {literal(licence) if licence else NO_LICENCE}. Of the program manas: Apache-2.0."


def _space(description: ModelDescription) -> RestorationSpace:
    return cast("RestorationSpace", description.genotype.space)  # every model file holds a whole network


def _identity(source: Path) -> str:
    content = source.read_bytes()
    return (
        f"RGB images of any size in, restored images of that size out. {literal(source.name)}, "
        f"{len(content):,} bytes, SHA-256 {literal(hashlib.sha256(content).hexdigest())}."
    )


def _architecture(network: nn.Module, description: ModelDescription) -> str:
    space = _space(description)
    rows = tuple(
        (task, _kind(tower), f"{_parameters(network, task):,}", _tally(_choices(description, task)))
        for task, tower in space.towers.items()
    )
    connection = "One tower: the blind output is its own."
    if len(space.towers) > 1:
        connection = (
            f"Stitches between the towers: {space.stitch}. Fusion into the blind output: {space.fusion}."
        )
        searched = [label for label in ("stitch", "fusion") if getattr(space, label) == "searched"]
        results = "; ".join(f"{label}: {_tally(_choices(description, label))}" for label in searched)
        connection += f" Found by search: {results}." if results else ""
    caption = f"{size(costs(network, COUNTED_AT))}. {connection}"
    return Table(caption, ("tower", "space", "parameters", "choices"), rows).to_markdown().rstrip()


def _parameters(network: nn.Module, task: str) -> int:
    return sum(parameter.numel() for parameter in network.get_submodule(f"towers.{task}").parameters())


def _kind(tower: SearchSpace) -> str:
    return kind_of(type(tower.space if isinstance(tower, Decided) else tower))


def _choices(description: ModelDescription, part: str) -> list[str]:
    """The candidates chosen in a part of the network; for a tower that was decided before, its own choices."""
    tower = _space(description).towers.get(part)
    if isinstance(tower, Decided):
        return list(tower.chosen.values())
    choices = description.genotype.choices.items()
    return [name for label, name in choices if label.split("/")[0] == part]


def _tally(names: list[str]) -> str:
    """Words that tell how often each candidate was chosen."""
    counts = Counter(names)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "made by hand"


def _training(description: ModelDescription) -> Iterator[str]:
    summary = {key: value for key, value in description.training.items() if key not in ELSEWHERE}
    yield from _facts(summary)
    yield from map(literal, left_out_of(description.training))
    for task, provenance in description.genotype.provenance.items():
        if isinstance(provenance, Mapping):
            yield f"architecture of {literal(task)}: {'; '.join(_facts(provenance)) or 'unknown'}"


def _facts(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, str | int | float):
            yield f"{literal(key)}: {literal(value)}"


def _scores(description: ModelDescription, scored: Evaluation | None) -> Iterator[str]:
    validation = description.training.get("validation")
    if isinstance(validation, Mapping):
        yield _validation(validation).to_markdown().rstrip()
    else:
        yield f"Validation while training. {UNKNOWN}"
    if scored is None:
        yield "No evaluation was given for this card."
        return
    model = (
        literal(Path(scored.model).name) if scored.model else "a model that the file of scores does not name"
    )
    yield f"Scores of {model}."
    yield scored.to_markdown().rstrip()


def _validation(scores: Mapping[str, Any]) -> Table:
    """The scores of the validation by task, and those of its inputs, which earlier versions did not keep."""
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    inputs = {name: numbers.get(name.replace("psnr", "input")) for name in numbers if name.startswith("psnr")}
    rows = tuple(
        (name.partition("/")[2] or "all", f"{numbers[name]:.2f}")
        + (() if degraded is None else (f"{degraded:.2f}", f"{numbers[name] - degraded:+.2f}"))
        for name, degraded in inputs.items()
    )
    columns = ("task", "PSNR", "input", "gain")
    return Table(VALIDATION, columns[: max(map(len, rows), default=2)], rows)


def _limits(description: ModelDescription, scored: Evaluation | None) -> Iterator[str]:
    tasks = ", ".join(literal(task) for task in _space(description).towers)
    yield f"Its towers are for {tasks}. What it does to anything else, or to a clean image, is unknown."
    yield from shortcomings(description)
    steps = description.training.get("steps")
    if isinstance(steps, int) and steps < SHORTEST_PAPER:
        yield f"Trained for {steps:,} steps; the shortest of the papers' protocols has {SHORTEST_PAPER:,}."
    if scored is None:
        yield "No score on images that are not of its training is known; evaluate it on yours."
        return
    measure = scored.measures[0]
    for label, images in scored.parts:
        summary = summarised(images, [measure])
        before, after = ((spreads or {}).get(measure.name) for spreads in (summary.degraded, summary.restored))
        if before and after and measure.worth(after.mean) < measure.worth(before.mean):
            became = f"{measure.with_unit(before.mean)} become {measure.with_unit(after.mean)}"
            yield f"It makes {literal(label)} worse: {became}."


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or UNKNOWN
