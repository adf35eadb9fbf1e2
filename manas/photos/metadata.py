"""What a picture carries beside its pixels, from one file format to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image, PngImagePlugin

_ALL = ("icc", "exif", "xmp", "dpi", "text")
_NAMES = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution", "text": "text"}
_KEPT = {"PNG": _ALL, "JPEG": _ALL, "TIFF": _ALL[:-1], "WEBP": _ALL[:3], "BMP": ("dpi",)}

JPEG_SEGMENT = 65_000  # bytes that EXIF, XMP or a comment may take in a JPEG file, with room for its header
COMMENT = "Comment"  # the keyword in PNG of what JPEG calls its comment

# EXIF tags of a TIFF file that say how its pixels were stored, and XMP and ICC, which have their own fields.
_NESTED = frozenset([34665, 34853])  # what the camera says, and the place: directories of their own
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
        """What the colour profile is for: ``RGB``, ``GRAY``, ``CMYK``, ...; None without one."""
        return None if self.icc is None else self.icc[16:20].decode("latin-1").strip()


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


def kept_by(metadata: Metadata, format: str, colours: str) -> tuple[Metadata, list[str]]:
    """What a file of the format keeps, and the losses.

    Args:
        format: Pillow's name of it.
        colours: ``RGB`` or ``GRAY``, as the pixels are written: the profile of others would be wrong.
    """
    losses: dict[str, str] = {}
    for name in _ALL:
        if getattr(metadata, name) and name not in _KEPT[format]:
            losses[name] = f"{_NAMES[name]} is not kept in {format}"
    if metadata.colours not in (None, colours):
        losses["icc"] = "the colour profile is not kept where pixels are converted"
    for name in ("exif", "xmp"):
        if format == "JPEG" and len(getattr(metadata, name) or b"") > JPEG_SEGMENT:
            losses[name] = f"{_NAMES[name]} is too long for JPEG"
    nothing: dict[str, Any] = {name: {} if name == "text" else None for name in losses}
    return replace(metadata, **nothing), list(losses.values())


def save_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """The options with which Pillow writes `metadata`, all of which the format keeps."""
    options: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
    if format == "PNG":
        options["pnginfo"] = _png_texts(metadata)
    elif format == "TIFF":
        options["exif"] = _tiff_tags(metadata)
        if _NESTED & set(options["exif"]):
            options["compression"] = "raw"  # libtiff, which compresses, writes no directories below the first
    else:
        options["xmp"] = metadata.xmp
        comment = metadata.text.get(COMMENT, "").encode()
        options["comment"] = comment[:JPEG_SEGMENT]
    return {name: value for name, value in options.items() if value}


def _png_texts(metadata: Metadata) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for key, value in metadata.text.items():
        texts.add_text(key, value)
    if metadata.xmp:
        texts.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", errors="replace"))
    return texts


def _tiff_tags(metadata: Metadata) -> Image.Exif:
    tags = Image.Exif()
    tags.load(metadata.exif or b"")
    if metadata.xmp:
        tags[700] = metadata.xmp
    return tags
