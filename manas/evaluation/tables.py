"""A table with its caption, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MARKDOWN = re.compile(r"([\\`*_|<])")

# Whatever LaTeX would take for a command, and what has a glyph in mathematics only.
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}
_MINUS = re.compile(r"(?<![\w.$])-(?=\d)")


@dataclass(frozen=True)
class Table:
    """Texts in rows and columns; the first column names the rows.

    Attributes:
        caption: a sentence that says what the numbers are.
        headings: of the columns.
        rows: as long as the headings.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """A table of GitHub's Markdown below its caption; numbers stand to the right."""
        rules = [":---" if words else "---:" for words in self._words]
        lines = [map(_as_markdown, self.headings), rules, *(map(_as_markdown, row) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{_as_markdown(self.caption)}\n\n{table}\n"

    def to_latex(self) -> str:
        """A floating table for LaTeX with the package booktabs."""
        columns = "".join("l" if words else "r" for words in self._words)
        rows = (_latex_line(row) for row in self.rows)
        return "\n".join(
            (
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{_as_latex(self.caption)}}}",
                rf"  \begin{{tabular}}{{{columns}}}",
                r"    \toprule",
                _latex_line(self.headings),
                r"    \midrule",
                *rows,
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            )
        )

    @property
    def _words(self) -> list[bool]:
        """Whether a column holds words; in a column of numbers every cell begins as one."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        return [not all(re.match(r"[-+]?(\d|inf\b)|$", cell) for cell in column) for column in columns]


def _as_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _as_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    return _MINUS.sub("$-$", escaped)


def _latex_line(cells: Sequence[str]) -> str:
    return rf"    {' & '.join(map(_as_latex, cells))} \\"
