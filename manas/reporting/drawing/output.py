"""From a figure to a file or an image, the same one on every machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from manas.errors import ManasError
from manas.files import replacing

DOTS = 300  # an inch of a PNG file
SCREEN = 200  # an inch of a raster

# What a file says about itself, without the time at which it was written.
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
}
# A PDF, for papers, brings its font along as TrueType, as publishers ask. An SVG, for pages and for editing,
# keeps text as text, which can be searched and read aloud; where DejaVu Sans is missing, nearly every other
# font is narrower, so that everything still fits. Without hinting, text in pixels has the width that
# was measured.
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "manas",
    "pdf.fonttype": 42,
    "text.hinting": "no_hinting",
}


def settings() -> AbstractContextManager[None]:
    """matplotlib as it comes, whatever a user's own configuration of it says, with ours on top."""
    return matplotlib.style.context(["default", _SETTINGS])


def suffix_of(path: Path) -> str:
    """The suffix that says how a drawing is written.

    Raises:
        ManasError: if no drawing can be written so.
    """
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise ManasError(f"{path}: a drawing cannot be written as {suffix!r}; use {', '.join(_METADATA)}")
    return suffix


def write(drawn: Figure, path: Path) -> Path:
    """Writes a figure as its suffix says; the same figure gives the same bytes.

    Parents are created; the file is complete or not there.
    """
    suffix = suffix_of(path)
    with replacing(path) as temporary, settings():
        drawn.savefig(temporary, format=suffix[1:], dpi=DOTS, metadata=_METADATA[suffix])
    return path


def rasterised(drawn: Figure) -> np.ndarray:
    """The figure as (H, W, 3) uint8."""
    drawn.set_dpi(SCREEN)
    canvas = FigureCanvasAgg(drawn)
    with settings():
        canvas.draw()
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])
