"""The front matter of a model card: what programs read, in the words of Hugging Face's hub.

https://huggingface.co/docs/hub/model-cards names the keys; ``model-index`` holds the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import yaml

from manas.evaluation.results import Evaluation
from manas.evaluation.scores import Key
from manas.restoration.model_file import ModelDescription
from manas.restoration.network import RestorationSpace

FENCE = "---\n"
INPUT = ", input"  # ends the name of a metric of the images before they are restored


class Listed(NamedTuple):
    """A measure of the images of one part of an evaluation, before restoring and after."""

    images: str
    measure: str
    before: float | None
    after: float


def front_matter(name: str, description: ModelDescription, scored: Evaluation | None) -> str:
    """The front matter of the card of a network called `name`, with the scores of an evaluation if given."""
    tasks = cast("RestorationSpace", description.genotype.space).towers
    content: dict[str, Any] = {}
    if licence := description.training.get("license"):
        content["license"] = str(licence)
    content |= {"library_name": "manas", "pipeline_tag": "image-to-image"}
    content["tags"] = ["image-restoration", *tasks]
    if scored:
        content["model-index"] = [{"name": name, "results": list(_results(scored))}]
    return FENCE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=112) + FENCE.rstrip()


def _results(scored: Evaluation) -> Iterator[dict[str, Any]]:
    for group, level in scored.levels:  # a mean over several levels compares with nothing
        label, summary = str(Key(group, level, "")), scored.summary(group, level)
        name = label if label.startswith(scored.data) else f"{scored.data}, {label}"
        metrics = []
        for measure in scored.measures:
            for spreads, of in ((summary.degraded, INPUT), (summary.restored, "")):
                value = round(spreads[measure.name].mean, 4) if spreads else math.nan
                if math.isfinite(value):  # that of an image and itself is not
                    title = f"{measure.name} ({scored.protocol}){of}"
                    metrics.append({"type": measure.name, "value": value, "name": title})
        data = {"name": f"{name} ({summary.images} images)", "type": label}
        task = {"type": "image-to-image", "name": "image restoration"}
        yield {"task": task, "dataset": data, "metrics": metrics}


def read_front_matter(card: str) -> dict[str, Any]:
    """The front matter of a card; empty if it has none."""
    if not card.startswith(FENCE):
        return {}
    content = yaml.safe_load(card.removeprefix(FENCE).partition(FENCE)[0])
    return content if isinstance(content, dict) else {}


def listed(content: Mapping[str, Any]) -> Iterator[Listed]:
    """The scores in a front matter that `front_matter` wrote."""
    for model in content.get("model-index", ()):
        for result in model["results"]:
            values = {metric["name"]: metric["value"] for metric in result["metrics"]}
            for name, value in values.items():
                if not name.endswith(INPUT):
                    yield Listed(result["dataset"]["name"], name, values.get(f"{name}{INPUT}"), value)
