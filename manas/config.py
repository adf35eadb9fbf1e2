"""Configuration files: YAML with overrides, read into typed models that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from manas.errors import ManasError, explain

Config = TypeVar("Config", bound=BaseModel)


def read_config(model: type[Config], path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """The configuration in a YAML file, or the defaults, with ``key.inner=value`` overrides.

    Raises:
        ManasError: for a file that cannot be read, an unknown key, a wrong type, a value out of range.
    """
    content = _read_yaml(path) if path is not None else {}
    where = str(path) if path is not None else "configuration"
    for override in overrides:
        _set(content, override)
        where = f"{where} with --set" if "--set" not in where else where
    try:
        return model.model_validate(content, context={"trusted": True})
    except ValidationError as error:
        raise explain(error, model, where) from error


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ManasError(f"{path}: cannot be read ({error.strerror}); give an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManasError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
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
    except yaml.YAMLError as error:
        raise ManasError(f"--set {override}: the value is not valid YAML") from error
    *parents, last = key.split(".")
    inner: Any = content
    for parent in parents:
        inner = _entered(inner, parent, override)
    _assign(inner, last, value, override)


def _entered(inner: Any, key: str, override: str) -> Any:
    if isinstance(inner, list):
        return inner[_place(inner, key, override)]
    if not isinstance(inner.setdefault(key, {}), dict | list):
        raise ManasError(f"--set {override}: {key!r} holds a value, not keys; set it as a whole")
    return inner[key]


def _assign(inner: Any, key: str, value: Any, override: str) -> None:
    if isinstance(inner, list):
        inner[_place(inner, key, override)] = value
    else:
        inner[key] = value


def _place(inner: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(inner):
        raise ManasError(f"--set {override}: {key!r} is no place in a list of {len(inner)}")
    return int(key)
