"""The one error that is the user's to mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


class ManasError(ValueError):
    """Bad input: says what is wrong, where, and what to do.

    The command line prints its message as one line and exits with code 2; every other exception is a defect
    of ours and keeps its traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint such as ``did you mean 'patch'?``, or the valid names where none is near."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(valid)}"


def explain(error: ValidationError, model: type[BaseModel], where: str) -> ManasError:
    """One line for the first of pydantic's complaints: the place, the key, what to write instead."""
    first = error.errors(include_url=False)[0]
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "tagged-"))]
    key = ".".join(str(part) for part in location) or "the whole"
    if first["type"] == "extra_forbidden":
        return ManasError(f"{where}: unknown key {key!r}; {_hint(location, model)}")
    if first["type"] == "missing":
        return ManasError(f"{where}: {key!r} is missing; add it")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = "" if first["type"] == "value_error" else f" (given: {_shorten(first['input'])})"
    return ManasError(f"{where}: {key}: {message}{given}")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(location: list[Any], model: type[BaseModel]) -> str:
    *parents, name = location
    for parent in parents:
        inner = _model_in(model.model_fields[parent].annotation) if parent in model.model_fields else None
        model = inner or model
    return nearest(str(name), model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation such as ``Model | None`` or ``tuple[Model, ...]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model), None)
