"""A text that grows: at every moment the page shows what the whole of it would."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.html_checker import text_of

from gguf_widgets.widgets import _md_blocks, _md_code
from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks, to_html

PIECES = st.sampled_from(
    [
        *("a", "word ", "two\nlines\n", "\n", "\n\n", " ", "  ", "    ", "\t", "*", "**", "_", "`"),
        *("# ", "#", "## head\n", "- ", "-", "+ item\n", "1. ", "1", ".", "10) x\n", "> ", ">"),
        *(
            "```",
            "```py\n",
            "\n```\n",
            "~~~\n",
            "---",
            "---\n",
            "===\n",
            "=",
            "***\n",
            "|",
            "| a |",
        ),
        *("\n|---|---|\n", "|--", "-|\n", "a | b\n", "[x](y)", "[x]: y\n", "![", "](", ")", "<b>"),
        *(
            "\\",
            "\r",
            "\r\n",
            "\ufeff",
            "\x0b",
            "é",
            "\u2028",
            "~~",
            "x = 1\n",
            "    code\n",
            "&lt;",
        ),
        *(
            "   para\n",
            ":--",
            ":",
            "\n> q\n",
            "\n- a\n\n  b\n",
            "<",
            ">\n",
            "!",
            "0",
            "<!--",
            "- in\n",
        ),
        *(
            "$",
            "$$",
            "$$\n",
            "\n$$\n",
            "x^2",
            "\\[",
            "\\]",
            "\\(",
            "\\)",
            "\\frac{1}{2}",
            "\n\\[\n",
        ),
        *("\n\\begin{align}\n", "\\end{align}\n", " costs $5", "a & b", "\u202e", "``", "~"),
        *("<think>\n", "</think>\n", "<thi", "nk>", "</", "\n```sh\n", "| c | d |\n"),
    ]
)


def without_colours(blocks: list[str]) -> list[str]:
    return [re.sub(r'<span class="hl-\w+">([^<]*)</span>', r"\1", block) for block in blocks]


@given(st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join), max_size=12))
@settings(max_examples=250, deadline=None)
def test_a_growing_text_shows_what_the_whole_would(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So that lists, tables and code are split often.
        patch.setattr(_md_blocks, "LIST_PART", 2)
        patch.setattr(_md_blocks, "TABLE_PART", 2)
        patch.setattr(_md_code, "PART_LINES", 3)
        patch.setattr(_md_code, "PART_CHARS", 40)
        check_growth(pieces)


def check_growth(pieces: list[str]) -> None:
    renderer = StreamRenderer()
    blocks: list[str] = []
    text = ""
    for piece in pieces:
        text += piece
        keep, new = renderer.feed(piece)
        assert 0 <= keep <= len(blocks)
        blocks[keep:] = new
        whole = to_blocks(text, growing=True)
        assert blocks == renderer.blocks
        # Only the colours of code without an end may lag behind.
        assert without_colours(blocks) == without_colours(whole)
    keep, new = renderer.finish()
    blocks[keep:] = new
    assert blocks == to_blocks(text)


def test_a_long_list_comes_in_parts_that_go_on_counting() -> None:
    text = "".join(f"{n}. *item* {n}\n    - inner\n\n" for n in range(7, 57)) + "end"
    blocks = to_blocks(text)
    assert [re.match(r"<\w+( start=\"\d+\")?", block).group() for block in blocks] == [  # type: ignore[union-attr]
        *('<ol start="7"', '<ol start="27"', '<ol start="47"', "<p"),
    ]
    assert "".join(blocks).count("<em>item</em>") == 50
    renderer = StreamRenderer()
    keeps = [renderer.feed(text[at : at + 9])[0] for at in range(0, len(text), 9)]
    assert keeps[-1] >= 2
    assert renderer.blocks == blocks


ANSWER = "\n".join(
    f"## Part {n}\n\nSome *words* about `x{n}` and **more**, on\ntwo lines.\n\n"
    f"1. first\n2. second\n   - inner\n\n```python\nfor i in range({n}):\n    print(i)\n```\n\n"
    f"| a | b |\n|---|---|\n| {n} | 2 |\n"
    for n in range(120)
)


def test_blocks_that_are_finished_stay_and_the_cost_grows_with_the_text_only() -> None:
    # 25,000 characters, about 7,000 tokens of 4 characters.
    def cost(text: str) -> float:
        renderer = StreamRenderer()
        begun = time.process_time()
        keeps = [renderer.feed(text[at : at + 16])[0] for at in range(0, len(text), 16)]
        spent = time.process_time() - begun
        assert renderer.blocks == to_blocks(text)
        assert all(before <= after + 2 for before, after in pairwise(keeps))
        assert len(renderer.blocks) - keeps[-1] <= 2
        return spent

    quarter = ANSWER[: len(ANSWER) // 4]
    cost(quarter)  # Pygments' lexers are made now
    assert cost(ANSWER) < 8 * cost(quarter) + 0.2


def test_code_that_grows_keeps_its_text_and_gets_its_colours_at_the_end() -> None:
    renderer = StreamRenderer()
    code = "".join(f"def function_{n}(x):\n    return 'é' * {n}\n" for n in range(300))
    blocks: list[str] = []

    def feed(text: str) -> None:
        keep, new = renderer.feed(text)
        blocks[keep:] = new

    feed("```python\n")
    for start in range(0, len(code), 20):
        feed(code[start : start + 20])
        if start % 1000 == 0:
            assert text_of("".join(blocks)).rstrip() == code[: start + 20].rstrip()
            assert "hl-k" in blocks[0] or start < 400
    feed("```\n")
    assert blocks == to_blocks(f"```python\n{code}```\n")
    # One block, in parts that are put together where no page does it.
    assert len(blocks) == 15
    assert all(block.startswith('<div class="gw-code gw-more">') for block in blocks[1:])
    whole = to_html(f"```python\n{code}```\n")
    assert whole.count("<div") == 1
    assert text_of(whole) == code
    assert "hl-nf" in whole.rsplit("function_299", 1)[0][-30:]


def test_a_long_table_comes_in_parts_that_are_one_table() -> None:
    text = "| a | b |\n|:-:|---|\n" + "".join(f"| {n} | *x* |\n" for n in range(60)) + "\nend\n"
    blocks = to_blocks(text)
    assert [block[:28] for block in blocks] == [
        '<div class="gw-table"><table',
        *['<div class="gw-table gw-more'] * 2,
        '<p dir="auto">end</p>\n',
    ]
    assert all('<td class="gw-center" dir="auto">' in block for block in blocks[:3])
    whole = to_html(text)
    assert (whole.count("<table"), whole.count("<tbody"), whole.count("<tr")) == (1, 1, 61)


# Long answers of each kind, as they come: (text, what may be sent for each character of it).
LONG = {
    "code": "```python\n" + "x = [1, 'a']  # three\n" * 1_500,
    "one paragraph": "word *and* more words " * 900,
    "one line beyond the limits": "x" * 250_000,
    "a table": "| a | b | c |\n|---|---|---|\n" + "| 1 | *two* | three words |\n" * 1_200,
    "a list": "".join(f"{n}. An item with *some* words\n" for n in range(3_000)),
    "thinking": "<think>\n" + "A thought about it.\n\n" * 1_000,
    "formulas": "So $x_1^2 + \\frac{a}{b}$ it is.\n\n$$\n\\sum_i i^2\n$$\n\n" * 300,
    "plain text beyond the limits": "short\n" * 8_000,
    "an indented code block in a quote": "> ```python\n" + "> x = 1\n" * 400,
}


def test_of_a_long_paragraph_every_word_is_shown_at_once() -> None:
    renderer = StreamRenderer()
    blocks: list[str] = []
    text = ""
    waited = 0
    for number in range(2_500):
        piece = f"w{number} *and* "
        text += piece
        keep, new = renderer.feed(piece)
        blocks[keep:] = new
        assert re.findall(r"w\d+", text_of("".join(blocks))) == re.findall(r"w\d+", text)
        if "gw-more" in blocks[-1]:
            assert len(new) == 1
            assert len(new[0]) < 600
            waited += 1
        if len(text) > 19_000:
            break
    assert waited > 500
    renderer.finish()
    assert renderer.blocks == to_blocks(text)


COUNTED = {"a table", "a list", "thinking", "formulas"}


@pytest.mark.parametrize("kind", LONG)
def test_what_is_sent_for_a_long_answer_and_its_cost_grow_with_its_length_only(kind: str) -> None:
    text = LONG[kind]
    step = max(16, len(text) // 500)

    def stream(text: str) -> tuple[float, int]:
        renderer, sent = StreamRenderer(), 0
        blocks: list[str] = []
        begun = time.process_time()
        for at in range(0, len(text), step):
            keep, new = renderer.feed(text[at : at + step])
            sent += sum(map(len, new))
            blocks[keep:] = new
        spent = time.process_time() - begun
        keep, new = renderer.finish()
        blocks[keep:] = new
        assert blocks == to_blocks(text)
        return spent, sent

    quarter = text[: len(text) // 4]
    stream(quarter)
    (little_s, little), (much_s, much) = stream(quarter), stream(text)
    # In proportion would be 4, with all of it each time 16. The others have limits instead.
    at_most = 7 if kind in COUNTED else 17
    assert much < (17 if "in a quote" in kind or "one paragraph" in kind else 7) * little
    assert much_s < 1.5 * at_most * little_s + 1.0
