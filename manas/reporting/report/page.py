"""The report of a run as one HTML file, which needs nothing beside it and loads nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from manas.files import replacing
from manas.reporting.report.markup import as_html, element
from manas.reporting.report.record import Record
from manas.reporting.report.sections import SECTIONS, Section, title_of

# The browser runs no script and sends no request, whatever texts a run may hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Pictures are dark on white; on a dark screen they are inverted, with their hues kept.
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #5c5c5c; --paper: #fff; --shade: #f3f3f1;
  --line: #d4d4d0; --mark: #0072b2 }
body { margin: 2rem auto 4rem; max-width: 700px; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
h1, p, td, th, dd, pre { overflow-wrap: anywhere }
.quiet, figcaption, dt { color: var(--quiet); font-size: .875rem }
.verdict { background: var(--shade); border-left: .3rem solid var(--mark); margin: 1.5rem 0;
  padding: .8rem 1.2rem }
.verdict h2 { margin: 0 } .verdict ul { margin: .4rem 0 0; padding-left: 1.2rem }
figure { margin: 1.5rem 0; break-inside: avoid }
figure.wide { width: min(96vw, 1100px); margin-left: 50%; transform: translateX(-50%); text-align: center }
figcaption { margin-top: .3rem }
svg { display: block; width: 100%; height: auto; margin: 0 auto; overflow: visible }
svg * { stroke-linejoin: round; stroke-linecap: butt }
svg text { font-family: "DejaVu Sans", Verdana, sans-serif !important }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); gap: 0 1.5rem }
img { width: 100%; height: auto }
table { border-collapse: collapse; font-size: .875rem; width: 100% }
th, td { text-align: left; font-weight: normal; padding: .15rem .8rem .15rem 0;
  border-bottom: 1px solid var(--line) }
thead th { color: var(--quiet) } td:last-child { font-variant-numeric: tabular-nums }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; margin: .5rem 0 }
dd { margin: 0 }
details { margin: 1rem 0 } summary { cursor: pointer; color: var(--mark) }
pre { background: var(--shade); padding: .8rem 1rem; font-size: .8rem; white-space: pre-wrap }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --quiet: #a8a8a4; --paper: #1a1a1a; --shade: #262626; --line: #444; --mark: #5db4ea }
  svg { filter: invert(.9) hue-rotate(180deg) } }
@media print { body { max-width: none; margin: 0; font-size: 10pt } figure.wide { width: 100%; margin-left: 0;
  transform: none } }
"""


def write_report(run: Path) -> Path:
    """Writes report.html into the directory of a search or retraining and returns its path.

    The report leaves out missing and damaged files, and an error in the making of a section is a warning. The
    same directory gives the same bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    path = run / "report.html"
    html = as_html(_page(Record(run)))
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")
    return path


def _page(record: Record) -> Element:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title_of(record)} ({record.run.absolute().name})"),
        element("style", STYLE),
    )
    body = element("body", *(part for section in SECTIONS for part in _parts_of(section, record)))
    for part in body:
        part.tail = "\n"
    return element("html", head, body, lang="en")


def _parts_of(section: Section, record: Record) -> Iterator[Element]:
    """The parts of a section as far as they can be made; a failure must not cost a search its result."""
    try:
        yield from section.parts(record)
    except Exception as error:
        warnings.warn(f"{record.run}: the report goes without {section.name}: {error!r}", stacklevel=2)
