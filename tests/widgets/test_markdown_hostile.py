"""Several hundred outputs made to do harm: all of them inert, whole or in pieces, and quick."""

from __future__ import annotations

import time

import pytest
from support.hostile_outputs import HOST, OUTPUTS, SLOW_OUTPUTS
from support.html_checker import text_of

from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks, to_html

GROUPS = 10


def streamed(text: str, cuts: list[int]) -> list[str]:
    """Render a text in pieces, and check every block that a page is told to draw."""
    renderer = StreamRenderer()
    blocks: list[str] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        keep, new = renderer.feed(text[start:end])
        text_of("".join([*blocks[:keep], *new]))
        blocks[keep:] = new
    keep, new = renderer.finish()
    blocks[keep:] = new
    return blocks


def test_there_are_several_hundred() -> None:
    assert len(OUTPUTS) >= 400
    assert sum(HOST in text for text in OUTPUTS) > 100


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_output_comes_out_as_anything_but_harmless_html(group: int) -> None:
    for text in OUTPUTS[group::GROUPS]:
        whole = to_blocks(text)
        text_of(to_html(text))
        text_of("".join(whole))
        length = len(text)
        for step in (1, 7) if length < 400 else (max(1, length // 20),):
            assert streamed(text, list(range(step, length, step))) == whole, text[:200]
        # As a part of something else.
        for frame in ("Well: {}\n\nEnd", "> {}", "<think>\n{}\n</think>\nSo."):
            text_of(to_html(frame.replace("{}", text)))


@pytest.mark.parametrize("name", SLOW_OUTPUTS)
def test_large_ones_are_inert_and_quick(name: str) -> None:
    text = SLOW_OUTPUTS[name]
    begun = time.process_time()
    whole = to_blocks(text)
    spent = time.process_time() - begun
    step = len(text) // 23
    assert streamed(text, list(range(step, len(text), step))) == whole
    text_of(to_html(text))
    # A quote of the tests for limits, as a measure of this machine: within a small multiple of it.
    begun = time.process_time()
    to_blocks("a *b* [c](d) `e`\n\n" * 2_000)
    assert spent < 10 * (time.process_time() - begun), f"{spent:.2f} s"


def test_addresses_never_leave_their_titles() -> None:
    for text in OUTPUTS:
        rendered = to_html(text)
        for attribute in (" href=", " src=", " style=", " action="):
            for piece in rendered.split("<")[1:]:
                tag = piece.split(">")[0]
                name, _, rest = tag.partition(" ")
                # Only as text within a title; attributes of ours are known by name.
                outside = " " + "".join(rest.split('"')[::2])
                assert attribute not in outside, (text, name)
