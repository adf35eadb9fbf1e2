"""Configuration files: YAML with overrides, read into typed models that refuse what they do not know."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from manas.errors import ManasError, explain
from manas.files import read_yaml

Config = TypeVar("Config", bound=BaseModel)


class Configuration(BaseModel):
    """Base class of the configurations of programs: frozen, and strict about what it does not know.

    A group of keys that is given in part keeps the rest of the program's own default of that group, as
    `weights: {rate: 1.0e-4}` keeps the clipping that a search has by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: _over(defaults.get(name), given) for name, given in content.items()}


def _over(default: Any, given: Any) -> Any:
    if not isinstance(default, BaseModel) or not isinstance(given, Mapping):
        return given
    return {**default.model_dump(mode="json", exclude_unset=True), **given}


def read_config(
    model: type[Config], source: Config | Mapping[str, Any] | str | Path | None, overrides: Iterable[str] = ()
) -> Config:
    """A configuration from itself, a mapping, a YAML file, or None for the defaults, with overrides.

    Args:
        overrides: ``key.inner=value``, the value in YAML.

    Raises:
        ManasError: for a file that cannot be read, an unknown key, a wrong type, a value out of range.
    """
    if isinstance(source, model):
        return source
    content, where = {}, "configuration"
    if isinstance(source, Mapping):
        content = copy.deepcopy(dict(source))
    elif source is not None:
        content, where = _read_mapping(source), str(source)
    for override in overrides:
        _set(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise explain(error, model, where) from error


def _read_mapping(path: Any) -> dict[str, Any]:
    content = read_yaml(Path(path), str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ManasError(f"{path}: a configuration is a mapping of keys to values")
    return content


def _set(content: dict[str, Any], override: str) -> None:
    """Applies ``a.b.0.c=value``, where the value is YAML; numbers are places in a list."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ManasError(f"--set {override}: write it as key=value, such as data.patch=64")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # of a date that there is not
        raise ManasError(f"--set {override}: the value is not valid YAML") from error
    *parents, last = key.split(".")
    inner: Any = content
    for parent in parents:
        inner = _entered(inner, parent, override)
    _assign(inner, last, value, override)


def _entered(inner: Any, key: str, override: str) -> Any:
    found = inner[_place(inner, key, override)] if isinstance(inner, list) else inner.setdefault(key, {})
    if not isinstance(found, dict | list):
        raise ManasError(f"--set {override}: {key!r} holds a value, not keys; set it as a whole")
    return found


def _assign(inner: Any, key: str, value: Any, override: str) -> None:
    if isinstance(inner, list):
        inner[_place(inner, key, override)] = value
    else:
        inner[key] = value


def _place(inner: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(inner):
        raise ManasError(f"--set {override}: {key!r} is no place in a list of {len(inner)}")
    return int(key)
