"""Texts made to be slow are quick, and what is beyond the limits is whole and says so."""

from __future__ import annotations

import time

import pytest
from support.html_checker import text_of

from gguf_widgets.widgets import _md_blocks, _md_code
from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks, to_html

SLOW = {
    "nested quotes": ">" * 100_000 + " x",
    "nested quotes, spaced": "> " * 50_000 + "x",
    "one line of 1 MB": "x" * 1_000_000,
    "one line of 1 MB of words": "*word* [x](y) " * 70_000,
    "1 MB of lines": "line\n" * 200_000,
    "1 MB of paragraphs": "a\n\n" * 330_000,
    "nested lists on one line": "- " * 10_000 + "x",
    "nested lists": "\n".join(" " * (2 * level) + "- x" for level in range(600)),
    "numbers": "1. " * 30_000,
    "items": "-\n" * 100_000,
    "asterisks": "*" * 50_000,
    "asterisks and letters": "*a " * 20_000,
    "asterisks and underlines": "*_" * 30_000,
    "strong": "**a" * 20_000,
    "brackets": "[" * 50_000,
    "brackets, several paragraphs": ("[" * 700 + "\n\n") * 200,
    "image brackets": "![" * 30_000,
    "closed brackets": "[x]" * 20_000,
    "links in links": "[" * 2_000 + "x" + "](y)" * 2_000,
    "link beginnings": "[a](" * 20_000,
    "angle beginnings": "[a](<" * 20_000,
    "backticks": "`" * 50_000,
    "backtick lengths": " ".join("`" * length for length in range(1, 300)),
    "fences": "```\n" * 50_000,
    "tildes": "~~a " * 20_000,
    "entities": "&amp;" * 40_000,
    "ampersands": "&" * 100_000,
    "backslashes": "\\" * 100_000,
    "angles": "<" * 100_000,
    "unclosed tags": "<b " * 50_000,
    "comments": "<!--" * 40_000,
    "autolinks": "<http://a " * 20_000,
    "pipes": "|" * 100_000,
    "wide table": "|" + "a|" * 5_000 + "\n|" + "-|" * 5_000 + "\n" + "|\n" * 1_000,
    "long table": "| a | b |\n|---|---|\n" + "| 1 | *2* |\n" * 20_000,
    "headings": "# x\n" * 50_000,
    "rules": "---\n" * 50_000,
    "setext": "a\n=\n" * 50_000,
    "spaces": " " * 500_000 + "x",
    "tabs": "\t" * 200_000,
    "line ends": "\n" * 1_000_000,
    "nul": "\x00" * 500_000,
    "code of one line": "```python\n" + "(" * 200_000 + "\n```",
    "code of many lines": "```python\n" + "x = [1, 'a']\n" * 30_000 + "```",
    "quotes with fences": "> ```\n" * 20_000,
    "references": "[a]: b\n" * 20_000,
    "title beginnings": '[a](b "' * 20_000,
    "emphasis in brackets": "[*" * 20_000,
    "mixed nesting": "> - " * 20_000 + "x",
    "dollars": "$" * 100_000,
    "dollars and letters": "$a " * 30_000,
    "a price": "$1" + " 2" * 9_000 + "$",
    "short formulas": "$x$ " * 40_000,
    "opening marks": "\\(" * 40_000,
    "opening marks, several lines": "\\[ x\n" * 20_000,
    "double dollars": "$$x\n" * 20_000,
    "formula braces": "$" + "{" * 3_000 + "x" + "}" * 3_000 + "$",
    "fractions": "$$" + "\\frac{" * 500 + "1" + "}{2}" * 500 + "$$",
    "roots": ("$" + "\\sqrt" * 600 + " x$\n\n") * 20,
    "macros": "$$\\def\\a{\\a\\a}\\a x$$\n\n" * 2_000,
    "side sets": "$$" + "\\sideset{}{}" * 300 + "x$$",
    "long formulas": ("$$" + "x_1+" * 900 + "$$\n\n") * 40,
    "wide matrix": "$$\\begin{matrix}" + "&" * 3_500 + "x\\end{matrix}$$",
    "operator names": "$\\operatorname{" + "a " * 1_500 + "x$",
    "thinking marks": "<think>\n</think>\n" * 20_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_texts_made_to_be_slow_are_quick(name: str) -> None:
    text = SLOW[name]
    begun = time.process_time()
    blocks = to_blocks(text)
    spent = time.process_time() - begun
    shown = text_of("".join(blocks))
    assert spent < 3.0, f"{spent:.2f} s"  # about 1 s on a quiet machine
    letters = set(text) & set("x12")
    assert letters <= set(shown)


def test_what_is_beyond_the_limits_is_whole_and_says_so() -> None:
    line = "x" * 1_000_000
    blocks = to_blocks(line)
    assert len(blocks) == 167  # in parts, so that one that grows is not sent anew each time
    assert line in text_of(to_html(line))
    assert "too long" in text_of(blocks[0])
    deep = "> " * 100 + "at the bottom"
    assert "too deeply" in text_of(to_html(deep))
    assert deep in text_of(to_html(deep))
    many = "*a " * 6_000 + "\n\nfine *here*"
    *first, second = to_blocks(many)
    assert "too many marks" in text_of(first[0])
    assert "<em>here</em>" in second
    lines = to_blocks("line\n\n" * 3_000)
    assert text_of(to_html("line\n\n" * 3_000)).count("line") == 3_000
    assert len(lines) == 2_500 + 1_000 // 40


def test_beyond_the_limits_a_growing_text_still_shows_what_the_whole_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_md_blocks, "MAX_MARKS", 300)
    monkeypatch.setattr(_md_blocks, "MAX_CHARS", 2_000)
    monkeypatch.setattr(_md_blocks, "MAX_LINES", 150)
    many_lines, many_marks = "x\n\n" * 100, "*a* [b\n\n" * 50
    long_line = "y" * 3_000 + "\n"
    for text in (many_lines, many_marks + long_line + many_lines, long_line, "# x\n" * 160):
        renderer = StreamRenderer()
        for start in range(0, len(text), 97):
            renderer.feed(text[start : start + 97])
            assert renderer.blocks == to_blocks(text[: start + 97], growing=True)
        renderer.finish()
        assert renderer.blocks == to_blocks(text)


# The units on which the lexers of Pygments 2.21 are slowest, found by trying 66 on each of them.
@pytest.mark.parametrize("unit", ["a b ", "{"])
def test_no_colouring_takes_long_on_code_made_to_be_slow(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_md_code, "_MAX_SECONDS", 0.05)
    line = (unit * 1_000)[: _md_code.MAX_LINE_CHARS - 1] + "\n"
    code = line * (_md_code.MAX_CHARS // len(line))
    for lexer in sorted(set(_md_code._LEXERS.values())):
        begun = time.process_time()
        _md_code._coloured(code, lexer)
        assert time.process_time() - begun < 1, lexer
