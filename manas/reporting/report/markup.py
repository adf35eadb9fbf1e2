"""HTML as a tree of elements: text is escaped and tags are closed by construction."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

PIXELS = 700 / 504  # pixels for each point of a figure


def element(tag: str, *children: Element | str | None, **attributes: str) -> Element:
    """Makes an element of elements and texts; None is left out, and ``class_`` is the attribute class."""
    parent = Element(tag, {name.rstrip("_").replace("_", "-"): text for name, text in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif child and len(parent):  # ElementTree keeps a text behind an element as that element's tail
            parent[-1].tail = (parent[-1].tail or "") + child
        elif child:
            parent.text = (parent.text or "") + child
    return parent


def as_html(root: Element) -> str:
    """The whole document as text."""
    return f"<!doctype html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n"


def inline(svg: str, prefix: str, label: str, largest: float = PIXELS) -> Element:
    """Makes an SVG document an element of a page.

    Args:
        prefix: the text before every id, so that no id occurs twice in a page.
        label: the description of the picture for readers who do not see it.
        largest: the most pixels for each point of the picture.
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
    """Removes the namespaces of tags and attributes, which HTML does not have, and gives ids the prefix."""
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
    """Makes a PNG file an image within the page itself."""
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return element("img", src=source, alt=text, width=str(width), height=str(height))


def table(headings: list[str], rows: list[list[str]]) -> Element:
    """Makes a table of texts; the first text of each row is its heading."""
    head = element("tr", *(element("th", text, scope="col") for text in headings))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", text) for text in row[1:]))
        for row in rows
    ]
    return element("table", element("thead", head), element("tbody", *body))


def folded(title: str, *children: Element) -> Element:
    """Makes a part of the page that stays closed until the reader opens it."""
    return element("details", element("summary", title), *children)
