"""The one error for mistakes that the user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


class ManasError(ValueError):
    """An error in the user's input; its message says what is wrong, where, and what to do.

    The command line prints the message as one line and exits with code 2; every other exception is a defect of
    ours and keeps its traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint such as ``did you mean 'patch'?``, or the valid names where none is near."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(valid)}"


def explain(error: ValidationError, model: type[BaseModel], where: str) -> ManasError:
    """The error for the first of pydantic's complaints: the place, the key, and what to write instead."""
    return ManasError(f"{where}: {complaint(error, model)}")


def complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """The key of the first of pydantic's complaints, and what to write instead."""
    first = error.errors(include_url=False)[0]
    # pydantic names its validators and the tags of unions on the way, which no user has written.
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "tagged-"))]
    keys, inner = _follow(location, model)
    key = ".".join(keys) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(keys[-1], inner.model_fields)}"
    if first["type"] == "missing":
        return f"{key!r} is missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = "" if first["type"] == "value_error" else f" (given: {_shorten(first['input'])})"
    return f"{key}: {message}{given}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _follow(location: list[Any], model: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The keys as a user writes them, without the tags of unions, and the last model on the way to them."""
    keys, models = [], [model]
    for part in location:
        members = [each for each in models if len(models) > 1 and part == _kind(each)]
        if members:
            models = members
            continue
        keys.append(str(part))
        field = models[0].model_fields.get(str(part))
        models = (_models_in(field.annotation) if field else []) or models
    return keys, models[0]


def _kind(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that an annotation such as ``A | B | None`` or ``tuple[A, ...]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
