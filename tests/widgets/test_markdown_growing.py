"""A text that grows: at every moment the page shows what the whole of it would."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.html_checker import text_of

from gguf_widgets.widgets import _md_blocks
from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks

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
    ]
)


def without_colours(blocks: list[str]) -> list[str]:
    return [re.sub(r'<span class="hl-\w+">([^<]*)</span>', r"\1", block) for block in blocks]


@given(st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join), max_size=12))
@settings(max_examples=250, deadline=None)
def test_a_growing_text_shows_what_the_whole_would(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_md_blocks, "LIST_PART", 2)  # so that lists are split often
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
        # The colours of the last block may lag behind, if it is code without an end.
        whole = to_blocks(text)
        assert blocks == renderer.blocks
        assert blocks[:-1] == whole[:-1]
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

    begun = time.process_time()
    feed("```python\n")
    for start in range(0, len(code), 20):
        feed(code[start : start + 20])
        if start % 1000 == 0:
            assert text_of(blocks[0]).rstrip() == code[: start + 20].rstrip()
            assert "hl-k" in blocks[0] or start < 400
    assert time.process_time() - begun < 10
    feed("```\n")
    assert blocks == to_blocks(f"```python\n{code}```\n")
    assert "hl-nf" in blocks[0].rsplit("function_299", 1)[0][-30:]
