"""Finding spaces: by entry point, by preset, by path of a YAML file, as ``package.module:Class``."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, ValidationInfo, WithJsonSchema

from manas.architecture.registry import PRESETS, SPACES, class_of, kind_of, registered
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, explain, nearest
from manas.files import read_yaml


def space_class(kind: str, *, trusted: bool) -> type[SearchSpace]:
    """The class of a kind; ``package.module:Class`` is imported only where the kind is `trusted`."""
    return class_of(kind, SearchSpace, group=SPACES, noun="space", trusted=trusted)


def parse_space(
    description: Any, *, trusted: bool, where: str = "space", given: type[SearchSpace] | None = None
) -> SearchSpace:
    """A space from a mapping with its `kind`.

    Args:
        trusted: whether the kind may be ``package.module:Class``; not in a received file.
        where: the file or key that errors name.
        given: a class that the caller brings for the kind of its name, in a received file too.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("kind"), str):
        raise ManasError(f"{where}: a space is described by a mapping with its 'kind'")
    kind = description["kind"]
    is_given = given is not None and kind == kind_of(given)
    model = given if given is not None and is_given else space_class(kind, trusted=trusted)
    rest = {key: value for key, value in description.items() if key != "kind"}
    fields = model.fields_from(rest, trusted=trusted)
    try:
        return model.model_validate(fields, context={"trusted": trusted, "given": given})
    except ValidationError as error:
        raise explain(error, model, where) from error


def load_space(reference: str | Path | Mapping[str, Any] | SearchSpace) -> SearchSpace:
    """A space by preset name, path of a YAML file, mapping with its `kind`, or ``package.module:Class``.

    Raises:
        ManasError: if nothing of that name is found, or the description is not valid.
    """
    if isinstance(reference, SearchSpace):
        return reference
    if isinstance(reference, Mapping):
        return parse_space(reference, trusted=True)
    reference = str(reference)
    if reference.endswith((".yaml", ".yml")):
        return _from_yaml(Path(reference), reference)
    if ":" in reference:
        return parse_space({"kind": reference}, trusted=True, where=reference)
    found = presets()
    if reference not in found:
        raise ManasError(f"no preset {reference!r} is installed; {nearest(reference, found)}")
    return _from_yaml(found[reference], f"preset {reference!r}")


def presets() -> dict[str, Any]:
    """The installed presets by name: the YAML files of every package in the group `manas.presets`."""
    found: dict[str, Any] = {}
    for entry in registered(PRESETS).values():
        files = importlib.resources.files(entry.load()).iterdir()
        found |= {file.name[:-5]: file for file in files if file.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def _from_yaml(file: Any, where: str) -> SearchSpace:
    return parse_space(read_yaml(file, where), trusted=True, where=where)


def _nested(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, SearchSpace):
        return value
    context = info.context or {}
    trusted = bool(context.get("trusted"))
    if isinstance(value, str) and trusted:
        if not value.endswith(".json"):
            return load_space(value)
        value = {"kind": "decided", "genotype": value}
    return parse_space(value, trusted=trusted, given=context.get("given"))


_DESCRIPTION = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}

# A field of a received file: a space of any installed kind, written with it and read back as what it was.
AnySpace = Annotated[SerializeAsAny[SearchSpace], BeforeValidator(_nested), WithJsonSchema(_DESCRIPTION)]

# A field of a configuration: whatever `load_space` takes.
GivenSpace = Annotated[SerializeAsAny[SearchSpace], BeforeValidator(load_space)]
