"""Differentiable architecture search for image restoration.

The names below are the public ones; everything else is an implementation detail. Each is loaded when it is
first used, so that ``import manas`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manas.architecture.choice import Choice
    from manas.architecture.finding import load_space
    from manas.architecture.genotype import Genotype
    from manas.architecture.space import SearchSpace
    from manas.data.synthesis import synthesize
    from manas.errors import ManasError
    from manas.evaluation.evaluate import evaluate
    from manas.inference.restorer import Restorer
    from manas.searching.search import search
    from manas.training.retrain import retrain

__version__ = "0.1.0"

_HOME = {
    "Choice": "manas.architecture.choice",
    "Genotype": "manas.architecture.genotype",
    "ManasError": "manas.errors",
    "Restorer": "manas.inference.restorer",
    "SearchSpace": "manas.architecture.space",
    "evaluate": "manas.evaluation.evaluate",
    "load_space": "manas.architecture.finding",
    "retrain": "manas.training.retrain",
    "search": "manas.searching.search",
    "synthesize": "manas.data.synthesis",
}

__all__ = [
    "Choice",
    "Genotype",
    "ManasError",
    "Restorer",
    "SearchSpace",
    "evaluate",
    "load_space",
    "retrain",
    "search",
    "synthesize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'manas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
