"""Candidates that remember that they were built."""

from functools import partial

import pytest
from architecture.toy_spaces import Times


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.setattr(Times, "built", [])
    return {"one": partial(Times, 1.0), "two": partial(Times, 2.0), "three": partial(Times, 3.0)}
