"""`ChatFeed`: what the page is told, when, and what it never gets."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_page import shown_by

from gguf_widgets.core.chat.types import (
    ChatEvent,
    ChatMessage,
    ChatSnapshot,
    ContextUse,
    EventKind,
    MessageStatus,
    Phase,
)
from gguf_widgets.core.errors import (
    ChatTemplateError,
    ContextOverflowError,
    GgufWidgetsError,
    StoreError,
    WorkerDiedError,
    to_wire,
)
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings
from gguf_widgets.widgets import markdown
from gguf_widgets.widgets._chat_feed import INTERVAL_S, ChatFeed


def message(number: int, role: str, content: str, **more: Any) -> ChatMessage:
    fields: dict[str, Any] = {"status": MessageStatus.COMPLETE, **more}
    return ChatMessage(
        id=f"m{number}",
        conversation_id="c",
        parent_id=None,
        role=role,
        content=content,
        created_at=0.0,
        **fields,
    )


class Script:
    """A conversation that the test moves by hand, with a clock and the messages it led to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.messages: list[ChatMessage] = []
        self.left_out: list[str] = []
        self.busy = False
        self.feed = ChatFeed(self.take, self._send, lambda _shot: {}, clock=lambda: self.now)

    def _send(self, content: dict[str, Any]) -> None:
        json.dumps(content)  # it must cross the socket as it is
        self.sent.append(content)
        self.times.append(self.now)

    def take(self) -> ChatSnapshot:
        return ChatSnapshot(
            seq=0,
            conversation_id="c",
            title="",
            messages=list(self.messages),
            busy=self.busy,
            phase=Phase.WRITING if self.busy else None,
            num_done=None,
            num_total=None,
            context=ContextUse(12, 512),
            model_name=None,
            model_type="text",
            system=None,
            sampling=SamplingSettings(),
            left_out=self.left_out,
            notices=[],
        )

    def event(self, kind: EventKind = EventKind.UPDATED, **fields: Any) -> None:
        self.feed.handle(ChatEvent(kind=kind, seq=0, **fields))

    def write(self, text: str, tokens: int | None = None) -> None:
        """Grow the last message, as an answer does."""
        last = self.messages[-1]
        self.messages[-1] = msgspec.structs.replace(last, content=last.content + text)
        self.event(EventKind.DELTA, message_id=last.id, text=text, num_completion_tokens=tokens)
        self.feed.tick()

    def end(self, **fields: Any) -> None:
        self.busy = False
        fields = {"status": MessageStatus.COMPLETE, **fields}
        self.messages[-1] = msgspec.structs.replace(self.messages[-1], **fields)
        self.event()

    def settle(self) -> None:
        """Let time pass until nothing is left to send."""
        while (wait := self.feed.tick()) is not None:
            self.now += wait


def begin(script: Script, question: str = "Hello") -> None:
    script.feed.send_snapshot()
    script.busy = True
    script.messages = [
        message(1, "user", question),
        message(2, "assistant", "", status=MessageStatus.STREAMING),
    ]
    script.event(EventKind.ADDED)
    script.settle()


def test_at_most_twenty_updates_a_second_and_the_first_at_once() -> None:
    script = Script()
    begin(script)
    script.now, first = 10.0, len(script.sent)
    words = ["word\n\n" if number % 100 == 99 else "word " for number in range(3000)]
    for number, word in enumerate(words):
        script.write(word, tokens=number + 1)
        script.now += 0.001
    script.settle()
    times = script.times[first:]
    assert times[0] == 10.0, "the first piece does not wait"
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= INTERVAL_S - 1e-9
    assert len(times) <= 3 / INTERVAL_S + 2
    page = shown_by(script.sent)
    assert page.gaps == 0
    assert page.messages["m2"]["blocks"] == markdown.to_blocks("".join(words))
    rate = page.state["figures"][0]["value"]
    assert rate == "1,000 tokens/s"


def test_the_first_piece_does_not_wait_for_the_update_that_showed_the_question() -> None:
    script = Script()
    script.feed.send_snapshot()
    for number in (2, 4):
        script.busy = True
        answer = message(number, "assistant", "", status=MessageStatus.STREAMING)
        script.messages += [message(number - 1, "user", "Hello"), answer]
        script.event(EventKind.ADDED, message=answer, message_id=answer.id)
        script.settle()
        num_sent = len(script.sent) + 1
        script.now += INTERVAL_S / 5
        script.write("Once", tokens=1)
        assert shown_by(script.sent).messages[answer.id]["blocks"] == markdown.to_blocks("Once")
        script.now += INTERVAL_S / 5
        script.write(" upon", tokens=2)
        script.end()
        # Nor is anything else a first piece, also when it is heard of after the answer's end.
        script.event(EventKind.DELTA, message_id=answer.id, text=" upon", num_completion_tokens=2)
        assert script.feed.tick() is not None
        assert len(script.sent) == num_sent
        script.now += 1.0
        script.settle()
        assert shown_by(script.sent).messages[answer.id]["status"] == "complete"


@settings(deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            ["a ", "**b** ", "\n\n", "- c\n", "```\n", "x = 1\n", "| d |\n", "<b>", "> "]
        ),
        max_size=30,
    ),
    pauses=st.lists(st.sampled_from([0.0, 0.01, 0.2]), min_size=30, max_size=30),
    snapshot_at=st.integers(0, 30),
)
def test_updates_add_up_to_what_the_conversation_says(
    pieces: list[str], pauses: list[float], snapshot_at: int
) -> None:
    script = Script()
    begin(script)
    for number, (piece, pause) in enumerate(zip(pieces, pauses, strict=False)):
        script.now += pause
        script.write(piece)
        if number == snapshot_at:
            script.feed.send_snapshot()
    script.end()
    script.settle()
    page = shown_by(script.sent)
    assert page.gaps == 0
    assert page.messages["m2"]["blocks"] == markdown.to_blocks("".join(pieces))
    assert page.messages["m2"]["status"] == "complete"
    # A page that opens now sees the same.
    script.feed.send_snapshot()
    assert shown_by(script.sent[-1:]).messages == page.messages


def test_a_lost_update_is_a_gap_that_a_snapshot_closes() -> None:
    script = Script()
    begin(script)
    for number in range(5):
        script.now += 1
        script.write(f"part {number} ")
    lost = script.sent[:-2] + script.sent[-1:]
    page = shown_by(lost)
    assert page.gaps == 1
    script.feed.send_snapshot()
    assert script.sent[-1]["seq"] == script.feed.seq, "other views go on from the same number"
    page.take(script.sent[-1])
    assert "part 4" in page.messages["m2"]["blocks"][0]
    script.now += 1
    script.write("and on")
    page.take(script.sent[-1])
    assert "and on" in page.messages["m2"]["blocks"][0]
    assert page.gaps == 1


def test_nothing_changed_sends_nothing() -> None:
    script = Script()
    begin(script)
    before = len(script.sent)
    for _ in range(5):
        script.now += 1
        script.feed.touch()
        script.settle()
    assert len(script.sent) == before


HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script> [x](javascript:alert(3))'


def test_no_html_of_a_model_reaches_the_page_unsanitised() -> None:
    script = Script()
    begin(script, question=HOSTILE)
    script.messages[-1] = msgspec.structs.replace(script.messages[-1], model_name=HOSTILE)
    for piece in HOSTILE.split(" "):
        script.now += 1
        script.write(piece + " ")
    error = WorkerDiedError(HOSTILE)
    script.end(status=MessageStatus.FAILED, error=to_wire(error))
    script.settle()
    script.feed.send_snapshot()
    for content in script.sent:
        views = content.get("messages", [])
        blocks = [block for view in views for block in view["blocks"]]
        blocks += content.get("delta", {}).get("blocks", [])
        for block in blocks:
            assert "<img" not in block
            assert "<script" not in block
            assert "href" not in block
        for view in views:
            # What is not HTML is set as text by the page; it is never made HTML on the way.
            if view["role"] == "user":
                assert (view["text"], view["blocks"]) == (HOSTILE, [])
            if view["error"]:
                assert HOSTILE in view["error"]["text"]


@pytest.mark.parametrize(
    ("error", "title", "retry", "template"),
    [
        (WorkerDiedError("Signal 9."), "The model's process ended", True, False),
        (ContextOverflowError("600 of 512."), "This is too long for the model", False, False),
        (ChatTemplateError("Line 3."), "The model's chat template does not work", True, True),
    ],
)
def test_an_error_is_shown_in_its_message_with_what_to_do(
    error: GgufWidgetsError, title: str, retry: bool, template: bool
) -> None:
    script = Script()
    begin(script)
    script.now += 1
    script.write("Once upon")
    script.end(status=MessageStatus.FAILED, error=to_wire(error))
    script.settle()
    view = shown_by(script.sent).messages["m2"]
    assert view["status"] == "failed"
    assert "Once upon" in view["blocks"][0], "what had arrived is kept"
    assert view["error"]["title"] == title
    assert view["error"]["text"].startswith(error.message)
    assert (view["error"]["retry"], view["error"]["template"]) == (retry, template)


NOT_FINISHED = to_wire(StoreError("The program that wrote this answer ended.", reason="died"))


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"status": MessageStatus.ABORTED}, "Stopped."),
        ({"finish_reason": FinishReason.LENGTH}, "Cut off: the context is full."),
        ({"status": MessageStatus.INTERRUPTED, "error": NOT_FINISHED}, "Not finished: the page"),
        ({"finish_reason": FinishReason.STOP}, ""),
    ],
)
def test_how_an_answer_ended_is_said_below_it(fields: dict[str, Any], note: str) -> None:
    script = Script()
    begin(script)
    script.end(**fields)
    script.settle()
    view = shown_by(script.sent).messages["m2"]
    assert view["note"].startswith(note)
    assert (bool(view["note"]), view["error"]) == (bool(note), None)


@pytest.mark.parametrize("kind", [EventKind.ADDED, EventKind.PROGRESS])
def test_the_wait_for_the_first_word_counts_from_the_answers_beginning(kind: EventKind) -> None:
    script = Script()
    script.feed.send_snapshot()  # so that the next update has to wait
    script.busy = True
    script.messages = [message(2, "assistant", "", status=MessageStatus.STREAMING)]
    added = script.messages[0] if kind is EventKind.ADDED else None
    script.event(kind, message=added, message_id="m2")
    script.now += INTERVAL_S / 2
    script.write("Hi", tokens=1)
    script.settle()
    assert shown_by(script.sent).state["figures"][0]["value"] == "first word after 25 ms"


def test_the_live_line_has_the_numbers_of_the_last_answer() -> None:
    script = Script()
    begin(script)
    timings = Timings(
        queue_s=0, prefill_s=0.1, decode_s=2, ttft_s=0.12, total_s=2.1, decode_tok_per_s=31.4
    )
    script.end(timings=timings)
    script.settle()
    state = shown_by(script.sent).state
    assert [figure["value"] for figure in state["figures"]] == [
        "31 tokens/s",
        "first word after 120 ms",
    ]
    assert "ttft_s" in state["figures"][1]["title"]
    assert state["context"]["value"] == "12 of 512 tokens of context"


def test_images_that_the_model_cannot_see_are_told_once_and_as_soon_as_it_is_known() -> None:
    script = Script()
    begin(script)
    script.messages[-1] = msgspec.structs.replace(
        script.messages[-1], record={"images_left_out": 2}
    )
    script.event(EventKind.PROGRESS, message_id="m2")
    script.settle()
    page = shown_by(script.sent)
    words = "This model cannot see images: the 2 earlier images are left out from here on."
    assert page.messages["m2"]["left"] == words  # before its first word
    assert page.messages["m2"]["status"] == "streaming"
    script.end(content="Hm.")
    script.messages += [
        message(3, "user", "And?"),
        message(4, "assistant", "Hm.", record={"images_left_out": 2}),
    ]
    script.event(EventKind.RESET)
    script.settle()
    page = shown_by(script.sent)
    assert [page.messages[one]["left"] for one in ("m2", "m4")] == [words, ""]
