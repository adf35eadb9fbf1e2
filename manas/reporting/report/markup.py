"""HTML as a tree of elements: text is escaped and tags are closed by construction."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

PIXELS = 700 / 504  # of a figure for each of its points


def element(tag: str, *children: Element | str | None, **attributes: str) -> Element:
    """An element with elements and texts in it; None is nothing, and ``class_`` is the attribute class."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): text for name, text in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child and len(made):
            made[-1].tail = (made[-1].tail or "") + child
        elif child:
            made.text = (made.text or "") + child
    return made


def as_html(root: Element) -> str:
    """The whole document."""
    return f"<!doctype html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n"


def inline(svg: str, prefix: str, label: str, largest: float = PIXELS) -> Element:
    """An SVG document as an element of a page.

    Args:
        prefix: put before every id, which a page may have once only.
        label: what the picture is, for those who do not see it.
        largest: pixels a point of the picture has at most.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):  # a style would hold for the whole page
                parent.remove(child)
    for part in root.iter():
        _make_local(part, prefix)
    width = float(root.get("viewBox", "0 0 504 0").split()[2])
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label, "style": f"max-width: {width * largest:.0f}px"}
    return root


def _make_local(part: Element, prefix: str) -> None:
    """Tags and attributes without namespaces, which HTML knows none of, and ids with the prefix."""
    part.tag = part.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in part.attrib.items()}
    for name, value in attributes.items():
        if name == "id":
            attributes[name] = prefix + value
        elif name == "href":
            attributes[name] = value.replace("#", f"#{prefix}", 1)
        else:
            attributes[name] = value.replace("url(#", f"url(#{prefix}")
    part.attrib.clear()
    part.attrib.update(attributes)


def picture(path: Path, text: str, width: int, height: int) -> Element:
    """A PNG file as an image that is in the page itself."""
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return element("img", src=source, alt=text, width=str(width), height=str(height))


def table(headings: list[str], rows: list[list[str]]) -> Element:
    """A table of texts; the first of each row is its heading."""
    head = element("tr", *(element("th", text, scope="col") for text in headings))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", text) for text in row[1:]))
        for row in rows
    ]
    return element("table", element("thead", head), element("tbody", *body))


def folded(title: str, *children: Element) -> Element:
    """What is shown when it is asked for."""
    return element("details", element("summary", title), *children)
