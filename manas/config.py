"""Configuration files: YAML with overrides, read into typed models that refuse unknown keys."""

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
    """Base class of the configurations of programs: frozen, and strict about unknown keys.

    A group of keys that is given in part keeps the rest of the program's own default of that group: with
    `weights: {rate: 1.0e-4}` a search still clips as it does by default.
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
    # The program's default holds only the keys that it sets; the group's own defaults fill in the others.
    return {**default.model_dump(mode="json", exclude_unset=True), **given}


def read_config(
    model: type[Config], source: Config | Mapping[str, Any] | str | Path | None, overrides: Iterable[str] = ()
) -> Config:
    """Reads a configuration from a mapping, a YAML file, or None for the defaults, and applies overrides.

    A configuration that is one already is returned as it is.

    Args:
        overrides: texts ``key.inner=value``, with the value in YAML.

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
    """Applies the override ``a.b.0.c=value``, where the value is YAML and a number is a place in a list."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ManasError(f"--set {override}: write it as key=value, such as data.patch=64")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML answers an impossible date with a ValueError
        raise ManasError(f"--set {override}: the value is not valid YAML") from error
    *parents, last = key.split(".")
    inner: Any = content
    for parent in parents:
        inner = _enter(inner, parent, override)
    _assign(inner, last, value, override)


def _enter(inner: Any, key: str, override: str) -> Any:
    child = inner[_place(inner, key, override)] if isinstance(inner, list) else inner.setdefault(key, {})
    if not isinstance(child, dict | list):
        raise ManasError(f"--set {override}: {key!r} holds a value, not keys; set it as a whole")
    return child


def _assign(inner: Any, key: str, value: Any, override: str) -> None:
    if isinstance(inner, list):
        inner[_place(inner, key, override)] = value
    else:
        inner[key] = value


def _place(inner: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(inner):
        raise ManasError(f"--set {override}: {key!r} is no place in a list of {len(inner)}")
    return int(key)
