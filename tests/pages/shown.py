"""The pages, and what they show: blocks of code, command lines, links, words in code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS)]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def content(path: str) -> str:
    """The text of a file of the repository, such as a page."""
    return (REPOSITORY / path).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The content of every fenced block in a language."""
    return [code for found, code in FENCE.findall(content(page)) if found == language]


def block(page: str, language: str, beginning: str = "") -> str:
    """The one block of a page that begins so."""
    (found,) = (code for code in blocks(page, language) if code.startswith(beginning))
    return found


def prose(page: str) -> str:
    """The page without its blocks."""
    return FENCE.sub("", content(page))


def code_spans(page: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", prose(page)))


def commands(page: str) -> Iterator[list[str]]:
    """The words of every command line; one that goes on after a backslash or && is parted as a shell does."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                if words:
                    yield words
