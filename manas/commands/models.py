"""The command line: `manas models`."""

from __future__ import annotations

from typing import Annotated

import typer

from manas.commands.console import print_whole, say
from manas.errors import ManasError, nearest
from manas.models import DEFAULT, card_of, installed_models


def models(
    name: Annotated[str | None, typer.Argument(help="Print the whole card of this network.")] = None,
) -> None:
    """List the networks that come with the package, with their scores; commands take their names as MODEL."""
    known = installed_models()
    if name is None:
        for each in known:
            _list(each)
    elif name in known:
        say(card_of(name).read_text(encoding="utf-8").rstrip())
    else:
        raise ManasError(f"no installed network is called {name!r}; {nearest(name, known)}")


def _list(name: str) -> None:
    from manas.exporting.front_matter import listed, read_front_matter
    from manas.reporting.listing import bare_table

    content = read_front_matter(card_of(name).read_text(encoding="utf-8"))
    size = installed_models()[name].stat().st_size
    default = ", the default" if name == DEFAULT else ""
    say(f"{name}: {size / 1e6:.1f} MB, licence {content.get('license', 'unknown')}{default}")
    rows = [
        (each.images, each.measure, "" if each.before is None else f"{each.before:.2f}", f"{each.after:.2f}")
        for each in listed(content)
    ]
    if rows:
        print_whole([bare_table(("images", "measure", "input", "restored"), rows)])
