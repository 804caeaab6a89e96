"""Formulas: found where they are meant, drawn with what browsers know, else shown as written."""

# ruff: noqa: RUF001 - signs that look like letters are what this is about

from __future__ import annotations

import random
import re
import time

import pytest
from support.html_checker import text_of

from gguf_widgets.widgets import _md_formula
from gguf_widgets.widgets._md_formula import formula
from gguf_widgets.widgets._md_letters import styled
from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks, to_html


def drawn(text: str) -> list[str]:
    """Return the signs of each formula that is drawn, without white space."""
    found = re.findall(r"<math.*?</math>", to_html(text))
    return [re.sub(r"\s", "", text_of(one)) for one in found]


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("so $x^2$ is", ["x2"]),
        ("$x$, $y$.", ["x", "y"]),
        ("the $n$th and the $k$-th", ["n", "k"]),
        (r"\(a+b\) and \[c\]", ["a+b", "c"]),
        ("in a line $$x=1$$ too", ["x=1"]),
        ("$$\nx=1\n$$", ["x=1"]),
        ("text\n$$\nx\n$$\ntext", ["x"]),
        ("$$x$$.", ["x."]),
        (r"\[" + "\n- a\n= b\n" + r"\]", ["−a=b"]),
        ("- one\n  $$\n  x\n  $$\n- two $y$", ["x", "y"]),
        ("> \\[\n> x\n> \\]", ["x"]),
        ("| $a$ | b |\n|---|---|\n| $c$ | $d$ |", ["a", "c", "d"]),
        (r"\begin{align*} a &= b \\ c &= d \end{align*}", ["a=bc=d"]),
        ("**bold $x_1$ and *$y$***", ["x1", "y"]),
        (r"$a_1 * b * c_2$ and $\$5$", ["a1*b*c2", "$5"]),
        ("$2 \\times 3$", ["2×3"]),
    ],
)
def test_where_formulas_are(text: str, signs: list[str]) -> None:
    assert drawn(text) == signs
    assert "$" not in text_of(to_html(text)).replace("$5", "")


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10.",
        "between $5-$10, or US$20 and US$30",
        "$5 (about 4 euros) and not 5$ more",
        "from $1,000 to $2,000 (or 3$)",
        "a lone $ sign, $ two $ of them",
        "`$x$` and\n\n```\n$$x$$\n```",
        "echo $HOME/$USER and $PATH:$HOME",
        "$x",
        "$$ is money",
        "one $\nline each$",
    ],
)
def test_dollars_that_are_no_formula_stay(text: str) -> None:
    assert drawn(text) == []
    shown = text_of(to_html(text))
    assert shown.count("$") == text.count("$")


def test_what_is_not_closed_is_seen_as_it_is_and_takes_nothing_with_it() -> None:
    assert r"\( x^2" in text_of(to_html(r"so \( x^2"))
    blocks = to_blocks("$$\nx = *1*\n- a\n\n# After\n\n$$\n")
    assert [re.match(r"<\w+", block).group() for block in blocks] == ["<p", "<h3", "<p"]  # type: ignore[union-attr]
    assert "<em>1</em>" in blocks[0]
    # While it comes, what is above and below does not move.
    renderer = StreamRenderer()
    pieces = ("# A\n\ntext\n\n", "$$\n", r"\frac{1}", "{2}", "\n$", "$", "\n\nmore")
    keeps = [renderer.feed(piece)[0] for piece in pieces]
    assert keeps[1:] == [2, 2, 2, 2, 2, 3]
    assert renderer.blocks[2].startswith('<div class="gw-formula"><math display="block">')


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (r"\foo{x}", r"\foo is not known"),
        (r"\begin{tikzpicture}x\end{tikzpicture}", "tikzpicture is not known"),
        (r"\def\a{\a\a}\a", r"\def, which is not followed"),
        (r"\frac{1", "not complete"),
        (r"\hspace{900em}x", "too great"),
        ("{" * 50 + "x" + "}" * 50, "too deeply"),
        ("x" * 5_000, "too long"),
        ("a & b", "a & where none can be"),
        (r"\rule{9em}{9em}", "lines of its own"),
    ],
)
def test_what_cannot_be_drawn_is_shown_as_it_is_written_with_the_reason(
    source: str, why: str
) -> None:
    rendered = to_html(f"so ${source}$")
    assert "<math" not in rendered
    assert f"${source}$" in text_of(rendered)
    assert why in rendered.replace("&amp;", "&")
    assert f"$$\n{source}\n$$" in text_of(to_html(f"$$\n{source}\n$$"))


def test_what_browsers_leave_out_of_mathml_is_said_in_other_words() -> None:
    assert styled("AbC1", "double-struck") == "𝔸𝕓ℂ𝟙"
    assert styled("Lhα", "bold") == "𝐋𝐡𝛂"
    assert (styled("h", "italic"), styled("L", "script"), styled("H", "fraktur")) == ("ℎ", "ℒ", "ℌ")
    assert '<mrow class="gw-boxed">' in formula(r"\boxed{42}", display=True).html
    assert 'class="gw-col-right"' in formula(r"\begin{align}a&=b\end{align}", display=True).html
    table = formula(r"\begin{array}{c|c}a&b\\\hline c&d\end{array}", display=True).html
    assert (table.count("gw-line-after"), table.count("gw-line-below")) == (2, 2)
    assert "<mo>±</mo>" in formula(r"a \pm b", display=False).html
    # The name of a function stands apart from what it is taken of.
    assert '<mi>sin</mi><mspace width="0.1667em"></mspace><mi>x</mi>' in (
        formula(r"\sin x", display=False).html
    )
    limit = formula(r"\lim_{x \to 0} f", display=True).html
    assert '<munder><mo movablelimits="true"' in limit
    # Colours, addresses and styles are left out, their text is not.
    for source in (r"\color{red}x", r"\href{javascript:1}{x}", r"\style{color:red}{x}"):
        html = formula(source, display=False).html
        assert text_of(html) == "x"
        assert not re.search(r"red|javascript|href|style=\"c", html)


WORDS = [
    *(
        r"\frac",
        r"\sqrt",
        r"\left(",
        r"\right)",
        r"\begin{matrix}",
        r"\end{matrix}",
    ),
    *(
        r"{",
        r"}",
        r"^",
        r"_",
        r"&",
        r"\\",
    ),
    *(
        r"x",
        r"1",
        r"+",
        r"\text{a}",
        r"\sum",
        r"\limits",
    ),
    *(
        r"\overline",
        r"\mathbf{A}",
        r"\operatorname{ab}",
        r"\binom",
        r"\prime",
        r"'",
    ),
    *(
        r"\middle|",
        r"\not",
        r"\hat",
        r"[",
        r"]",
        r"\over",
    ),
    *(
        r"\sideset",
        r"\skew",
        r"\genfrac",
        r"\substack",
        r"\mathop",
        r"\color{red}",
    ),
    *(
        r"\displaystyle",
        r"\bigl(",
        r"\xrightarrow",
        r"\tag{1}",
    ),
]


def test_no_formula_made_of_what_there_is_takes_long_or_comes_out_as_anything_else() -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    slowest = 0.0
    for _ in range(400):
        few = chance.sample(WORDS, chance.randint(1, 5))
        source = " ".join(chance.choices(few, k=chance.choice((3, 12, 40, 400))))
        begun = time.process_time()
        found = formula(source[: _md_formula.MAX_CHARS], display=True)
        slowest = max(slowest, time.process_time() - begun)
        assert found.html or found.fault
        text_of(found.html)
        assert len(found.html) < 60 * _md_formula.MAX_CHARS
    begun = time.process_time()
    formula("x_1+" * (_md_formula.MAX_CHARS // 4), display=True)
    plain = time.process_time() - begun
    assert slowest < 25 * plain + 0.1


def test_a_text_of_formulas_has_a_limit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gguf_widgets.widgets._md_blocks.MAX_FORMULA_CHARS", 10)
    rendered = to_html("$x+y$ $a+b$ $c+d+e$ $f$")
    assert rendered.count("<math") == 3
    assert "too many in this text" in rendered
    assert "$c+d+e$" in text_of(rendered)
