"""Finding the relaxation that a configuration names: by entry point, or as ``package.module:Class``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from manas.architecture.registry import class_of
from manas.errors import ManasError, complaint
from manas.relaxations.base import RELAXATIONS, Relaxation


def find_relaxation(reference: Any) -> Relaxation:
    """Makes a relaxation from its kind, with the defaults, or from a mapping with its `kind`.

    A relaxation is returned as it is.

    Raises:
        ManasError: if nothing of that kind is found, or the rest of the mapping is not valid for it.
    """
    if isinstance(reference, Relaxation):
        return reference
    description = {"kind": reference} if isinstance(reference, str) else reference
    if not isinstance(description, Mapping) or not isinstance(description.get("kind"), str):
        raise ManasError("a relaxation is its kind, or a mapping with its 'kind'")
    model = class_of(description["kind"], Relaxation, group=RELAXATIONS, noun="relaxation", trusted=True)
    try:
        return model.model_validate({key: value for key, value in description.items() if key != "kind"})
    except ValidationError as error:
        raise ManasError(complaint(error, model)) from error


# The type of a field in a configuration, which takes whatever `find_relaxation` takes.
GivenRelaxation = Annotated[SerializeAsAny[Relaxation], BeforeValidator(find_relaxation)]
