"""The networks that come with the package: for each a model file, NAME.safetensors, and its card, NAME.md."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "weather"  # the network that is used where none is named


def installed_models() -> dict[str, Path]:
    """The model files by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))}


def card_of(name: str) -> Path:
    """The card of an installed network."""
    return installed_models()[name].with_suffix(".md")
