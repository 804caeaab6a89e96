"""What a model thought, among the blocks: apart, folded, told from the answer while it comes."""

from __future__ import annotations

from itertools import pairwise

from support.html_checker import text_of

from gguf_widgets.widgets.markdown import (
    THINKING_BEGIN,
    THINKING_END,
    StreamRenderer,
    to_blocks,
    to_html,
)

TEXT = "<think>\nSo *this*.\n\n```\n</think>\n```\n</think>\n\nThe **answer**."


def test_thinking_is_between_two_blocks_of_its_own() -> None:
    blocks = to_blocks(TEXT)
    assert blocks[0] == THINKING_BEGIN
    assert blocks[3] == THINKING_END
    assert [text_of(block).strip() for block in (*blocks[1:3], *blocks[4:])] == [
        *("So this.", "</think>", "The answer."),
    ]
    # As one piece of HTML it is a fold, closed or not.
    for text in (TEXT, "<think>\ncut o"):
        html = to_html(text)
        assert (html.count("<details"), html.count("</details>")) == (1, 1)
        text_of(html)
    assert to_blocks("<think>\n\n</think>\n\nNo thought.") == to_blocks("No thought.")


def test_while_it_comes_nothing_of_a_mark_is_shown_and_nothing_before_it_changes() -> None:
    renderer = StreamRenderer()
    blocks: list[str] = []
    keeps = []
    for letter in TEXT:
        keep, new = renderer.feed(letter)
        keeps.append(keep)
        blocks[keep:] = new
        assert blocks == renderer.blocks
        assert "think" not in text_of("".join(blocks)).replace("</think>", "")
    renderer.finish()
    assert renderer.blocks == to_blocks(TEXT)
    # Only the last block is drawn anew; now and then with the one before it.
    assert all(after >= before - 1 for before, after in pairwise(keeps))


def test_thinking_that_the_template_opened() -> None:
    rest = "Hm, $5.\n</think>\nYes."
    whole = to_blocks(rest)
    assert whole[0] == THINKING_BEGIN
    assert to_blocks(rest, opened=True) == whole
    known = StreamRenderer(opened=True)
    known.feed("Hm, ")
    assert known.blocks[0] == THINKING_BEGIN
    # Not known before the mark comes: then all that was shown becomes thinking.
    unknown = StreamRenderer()
    unknown.feed("Hm, $5.\n")
    assert THINKING_BEGIN not in unknown.blocks
    keep, new = unknown.feed("</think>\nYes.")
    assert keep == 0
    assert unknown.blocks == new
    unknown.finish()
    assert unknown.blocks == whole


def test_the_limits_are_those_of_the_whole_text() -> None:
    thought = "<think>\n" + "line\n\n" * 2_400 + "</think>\n"
    blocks = to_blocks(thought + "line\n\n" * 400)
    assert sum("gw-plain" in block for block in blocks) > 0
    assert text_of("".join(blocks)).count("line") == 2_800
