"""Tables as Markdown and LaTeX: what is in a cell is read there as it is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manas.evaluation.tables import Table

TABLE = Table(
    "rain_100: 8 images, protocol derain",
    ("", "PSNR", "in words"),
    (("light | heavy", "30.10 ± 2.00", "a % & more"), ("clean", "-1.5", "")),
)


def test_markdown():
    assert TABLE.to_markdown().splitlines() == [
        r"rain\_100: 8 images, protocol derain",
        "",
        "|  | PSNR | in words |",
        "| :--- | ---: | :--- |",
        r"| light \| heavy | 30.10 ± 2.00 | a % & more |",
        "| clean | -1.5 |  |",
    ]


def test_latex():
    assert TABLE.to_latex().splitlines() == [
        r"\begin{table}",
        r"  \centering",
        r"  \caption{rain\_100: 8 images, protocol derain}",
        r"  \begin{tabular}{lrl}",
        r"    \toprule",
        r"     & PSNR & in words \\",
        r"    \midrule",
        r"    light | heavy & 30.10 $\pm$ 2.00 & a \% \& more \\",
        r"    clean & $-$1.5 &  \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\b", r"a\textbackslash{}b"),
        ("$1_000", r"\$1\_000"),
        ("#{x}", r"\#\{x\}"),
        ("~/x^2", r"\textasciitilde{}/x\textasciicircum{}2"),
        ("<a> b", r"\textless{}a\textgreater{} b"),
        ("-0.5 to +0.5", "$-$0.5 to +0.5"),
        ("rain-100", "rain-100"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_is_escaped(text, expected):
    assert rf"  \caption{{{expected}}}" in Table(text, ("",), ((text,),)).to_latex().splitlines()
    assert rf"    {expected} \\" in Table("", ("",), ((text,),)).to_latex().splitlines()


UNESCAPED = re.compile(r"(?<!\\)[&%#_^~]")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_text_stays_in_its_cell(text):
    table = Table(text, ("a", "b"), ((text, text),))
    lines = table.to_latex().splitlines()
    assert len(lines) == 11
    inside = re.sub(r"\\text\w+\{\}|\$(\\pm|-)\$", "", lines[7].removesuffix(r" \\").strip())
    assert UNESCAPED.findall(inside) == ["&"] * (1 if text.strip() else len(UNESCAPED.findall(inside)))
    assert inside.count(r"\{") + inside.count(r"\}") == inside.count("{") + inside.count("}")
    row = table.to_markdown().splitlines()[-1]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3


@pytest.mark.parametrize(
    ("cells", "columns"),
    [
        (("1", "-2.5"), "r"),
        (("1", ""), "r"),
        (("inf", "+1 to 2"), "r"),
        (("1", "no"), "l"),
        (("info",), "l"),
        ((), "r"),
    ],
)
def test_numbers_stand_to_the_right(cells, columns):
    assert rf"\begin{{tabular}}{{{columns}}}" in Table("", ("",), tuple((cell,) for cell in cells)).to_latex()
