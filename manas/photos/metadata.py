"""Everything that a picture carries beside its pixels, and how it is read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from PIL import Image

# The fields of `Metadata`, as losses name them.
NAMES = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution", "text": "text"}

COMMENT = "Comment"  # the keyword in PNG of what JPEG calls its comment

# EXIF tags of a TIFF file that say how its pixels were stored, and XMP and ICC, which have their own fields.
_STORAGE = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296]
    + [301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339, 347, 529, 530, 531, 532, 700, 34675]
)


@dataclass(frozen=True)
class Metadata:
    """The colour profile, EXIF without orientation and thumbnail, XMP, pixels an inch, named texts."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: Mapping[str, str] = field(default_factory=dict)

    @property
    def colours(self) -> str | None:
        """The colours that the profile is for: ``RGB``, ``GRAY``, ``CMYK``, ...; None without a profile."""
        return None if self.icc is None else self.icc[16:20].decode("latin-1").strip()

    def without(self, names: Iterable[str]) -> Metadata:
        """The same but for the fields of these names."""
        return replace(self, **{name: getattr(Metadata(), name) for name in names})


def metadata_of(image: Image.Image) -> tuple[Metadata, list[str]]:
    """The metadata of an image that is loaded and upright, and what of it is too damaged to be kept."""
    exif, losses = _exif_of(image)
    texts = {key: str(value) for key, value in getattr(image, "text", {}).items() if "xmp" not in key}
    if isinstance(comment := image.info.get("comment"), bytes):
        texts[COMMENT] = comment.decode("utf-8", errors="replace")
    profile, xmp = image.info.get("icc_profile"), image.info.get("xmp")
    return (
        Metadata(
            icc=profile if isinstance(profile, bytes) and len(profile) > 128 else None,
            exif=exif,
            xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
            dpi=_resolution_of(image),
            text=texts,
        ),
        losses,
    )


def _exif_of(image: Image.Image) -> tuple[bytes | None, list[str]]:
    """Built anew and not copied: the thumbnail would show the picture before."""
    try:
        exif = image.getexif()
        for tag in _STORAGE:
            exif.pop(tag, None)
        return (exif.tobytes() if len(exif) else None), []
    except Exception:  # Pillow's parser raises whatever a malformed block makes it trip over
        return None, ["EXIF is damaged and was left out"]


def _resolution_of(image: Image.Image) -> tuple[float, float] | None:
    """One pixel an inch is what Pillow says where a TIFF file says nothing."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if all(1 < value <= 30_000 for value in (across, down)) else None
