"""The size of a network in words."""

from __future__ import annotations

from typing import Any


def size(provenance: dict[str, Any]) -> str:
    """The size in a provenance: ``4,724,520 parameters, 1,305.8 M MACs at 64x64`` (height x width)."""
    macs, (_, height, width) = provenance["macs"], provenance["input"]
    return f"{provenance['parameters']:,} parameters, {macs / 1e6:,.1f} M MACs at {height}x{width}"
