"""The callback by which long work says how far it is, in rooms that know nothing of one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Reach = Callable[[int, int], Any]  # takes the numbers of parts done and, as far as it is known, of all
