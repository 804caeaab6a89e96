"""A queue that merges what a slow reader has not taken yet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.types import Failed, PrefillProgress, TextDelta, TokenLogprob
from gguf_widgets.core.worker.outbox import Outbox
from gguf_widgets.core.worker.protocol import LoadProgress, Pong

# A push (request number, text) or, for None, a pop.
_STEPS = st.lists(st.none() | st.tuples(st.integers(0, 3), st.text(max_size=4)), max_size=80)


def _failed(request_id: str) -> Failed:
    return Failed(request_id=request_id, error={"kind": "x", "message": "", "details": {}})


@given(_STEPS)
def test_no_text_is_lost_or_reordered_whenever_it_is_taken(
    steps: list[tuple[int, str] | None],
) -> None:
    outbox = Outbox()
    sent: dict[str, str] = {}
    counts: dict[str, int] = {}
    taken: list[Any] = []
    for step in steps:
        if step is None:
            if outbox:
                taken.append(outbox.pop())
            continue
        request_id = f"c1-{step[0]}"
        sent[request_id] = sent.get(request_id, "") + step[1]
        counts[request_id] = counts.get(request_id, 0) + 1
        outbox.push(
            TextDelta(
                request_id=request_id,
                text=step[1],
                num_completion_tokens=counts[request_id],
                logprobs=[TokenLogprob(token=counts[request_id], text="", logprob=-1.0)],
            )
        )
        assert len(outbox) <= 4  # one entry a request, however much is written
    for request_id in sent:
        outbox.push(_failed(request_id))
    while outbox:
        taken.append(outbox.pop())
    for request_id, text in sent.items():
        mine = [message for message in taken if message.request_id == request_id]
        assert "".join(message.text for message in mine[:-1]) == text
        assert mine[-1] == _failed(request_id)
        numbers = [message.num_completion_tokens for message in mine[:-1]]
        assert numbers == sorted(numbers)
        assert numbers[-1] == counts[request_id]
        chances = [chance.token for message in mine[:-1] for chance in message.logprobs]
        assert chances == list(range(1, counts[request_id] + 1))


def test_progress_is_replaced_and_keeps_its_place_before_the_text() -> None:
    outbox = Outbox()
    for done in range(3):
        outbox.push(PrefillProgress(request_id="c1-1", num_done=done, num_total=3))
    outbox.push(TextDelta(request_id="c1-1", text="a", num_completion_tokens=1))
    for fraction in (0.1, 0.2):
        outbox.push(LoadProgress(fraction=fraction, phrase="Loading"))
    outbox.push(Pong(nonce=1))
    outbox.push(Pong(nonce=1))
    assert [outbox.pop() for _ in range(len(outbox))] == [
        PrefillProgress(request_id="c1-1", num_done=2, num_total=3),
        TextDelta(request_id="c1-1", text="a", num_completion_tokens=1),
        LoadProgress(fraction=0.2, phrase="Loading"),
        Pong(nonce=1),
        Pong(nonce=1),
    ]
    with pytest.raises(LookupError):
        outbox.pop()
