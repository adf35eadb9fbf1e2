"""Searches without pictures: drawings and the report take most of the time of a tiny one, and have tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from manas.searching import genotype_files, gradient


@contextmanager
def plainly() -> Iterator[None]:
    """Lets searches draw nothing and write no report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "raster", lambda genotype: np.zeros((2, 2, 3), np.uint8))
        patch.setattr(genotype_files, "write_report", lambda folder: folder)
        yield
