"""Every link, picture, file and name that a page names is there."""

import configparser
import pkgutil
import re
from pathlib import Path

import pytest
from pages.shown import PAGES, REPOSITORY, block, code_spans, content, prose

from manas.training.run import WRITTEN

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"(?:manas|search_spaces|experiments|tests|docs)/[\w./*-]*")
NAMED_OBJECT = re.compile(r"(?:manas|search_spaces)(?:\.\w+)+")


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = (REPOSITORY / page).parent / target if target else REPOSITORY / page
        assert path.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(path.resolve().relative_to(REPOSITORY).as_posix()), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_objects_that_are_named_exist(page):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    groups = set(setup["options.entry_points"])
    for span in code_spans(page):
        if NAMED_FILE.fullmatch(span):
            assert list(REPOSITORY.glob(span.rstrip("/"))), f"{page}: {span}"
        if NAMED_OBJECT.fullmatch(span) and span not in groups | {"manas.losses"}:
            pkgutil.resolve_name(span)


def test_the_architecture_names_all_that_a_run_writes():
    named = {span.rstrip("/") for span in code_spans("docs/architecture.md")}
    assert set(WRITTEN) <= named


def test_every_page_is_reached_from_the_readme():
    linked = {link.partition("#")[0] for link in LINK.findall(content("README.md"))}
    assert {page for page in PAGES if page != "README.md"} <= linked


def tree(drawn):
    """The paths of a drawn tree: two more spaces of indentation are one folder deeper."""
    folders = []
    for line in drawn.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders = [*folders[:depth], name]
        yield Path(*folders)


def test_the_tree_of_the_architecture_is_that_of_the_repository():
    drawn = set(tree(block("docs/architecture.md", "text", "manas/")))
    for path in drawn:
        assert (REPOSITORY / path).exists(), path
    for package in ("manas", "search_spaces", "manas/data"):
        rooms = {path.parent for path in (REPOSITORY / package).glob("*/*.py")}
        assert {room.relative_to(REPOSITORY) for room in rooms} <= drawn
    files = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "manas/architecture").glob("[!_]*.py")}
    assert files <= drawn
