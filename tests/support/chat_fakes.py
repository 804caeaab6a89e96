"""Who a conversation meets, without a worker: a model that says what the test writes, an observer.

Not a test and no fixture.
"""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatEvent, EventKind, MessageStatus
from gguf_widgets.core.types import (
    FinishReason,
    LoadSettings,
    ModelInfo,
    PrefillProgress,
    Reply,
    TextDelta,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)

WAIT_S = 60.0


class FakeStream:
    """An answer whose pieces the test puts in; an exception among them is raised.

    Each piece is one token, whose number is `token_of` its text. What it was told to begin with
    comes before the first piece, as in the real thing.
    """

    def __init__(self, messages: list[Any], sampling: dict[str, Any], begin: str = "") -> None:
        self.messages, self.sampling, self.begin = messages, sampling, begin
        self.pieces: queue.Queue[str | Exception | None] = queue.Queue()
        self.progress: PrefillProgress | None = None
        self.reply: Reply | None = None
        self.stopped = threading.Event()
        self.closed = False

    @property
    def _begin(self) -> str:
        """What the answer was told to begin with; a token is its character's number here."""
        begin = self.sampling.get("begin_with") or ""
        return begin if isinstance(begin, str) else "".join(map(chr, begin))

    def say(self, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put(piece)

    def stop(self) -> None:
        self.stopped.set()
        self.pieces.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[TextDelta]:
        text: list[str] = []
        tokens: list[TokenLogprob] = []
        number = self.sampling.get("logprobs")
        while True:
            piece = self.pieces.get(timeout=WAIT_S)
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                break
            told = piece if text else self.begin + piece
            text.append(piece)
            tokens.append(likely(piece, number or 0))
            yield TextDelta(
                request_id="r",
                text=told,
                num_completion_tokens=len(text),
                logprobs=tokens[-1:] if number is not None else [],
            )
        if self.begin and not text:
            yield TextDelta(request_id="r", text=self.begin, num_completion_tokens=0)
        self.reply = Reply(
            text=self.begin + "".join(text),
            finish_reason=FinishReason.ABORTED if self.stopped.is_set() else FinishReason.STOP,
            usage=Usage(num_prompt_tokens=10 * len(self.messages), num_completion_tokens=len(text)),
            timings=Timings(queue_s=0, prefill_s=0.1, decode_s=0.2, ttft_s=0.1, total_s=0.3),
            seed=7,
            logprobs=tokens if number is not None else None,
        )


_TEXTS: dict[int, str] = {}


def token_of(text: str) -> int:
    """Return the number that this text has as a token."""
    number = zlib.crc32(text.encode("utf-8", "replace"))
    _TEXTS[number] = text
    return number


def likely(text: str, number: int) -> TokenLogprob:
    """Return a token as it is recorded, with alternatives to it."""
    others = [f"{text.rstrip()}{n}" for n in range(1, number)]
    top = [TokenChance(token_of(other), other, -1.0 - n) for n, other in enumerate([text, *others])]
    return TokenLogprob(token_of(text), text, -1.0, top[:number])


class FakeModel:
    """A model whose answers the test writes: from `script`, or by hand through `streams`."""

    name = "fake"

    def __init__(self, *script: list[str | Exception]) -> None:
        self.info = ModelInfo(
            path="/m/fake.gguf",
            name="fake",
            architecture="llama",
            size_bytes=1,
            num_parameters=1,
            quantization="Q8_0",
            n_ctx_train=512,
            n_vocab=10,
            n_layer=1,
            n_head=1,
            n_head_kv=1,
            n_embd=8,
        )
        self.settings = LoadSettings(n_ctx=512)
        self.script = list(script)
        self.streams: list[FakeStream] = []
        self.begun = threading.Semaphore(0)

    def detokenize(self, tokens: list[int]) -> str:
        return "".join(_TEXTS[token] for token in tokens)

    def stream(
        self, messages: list[Any], begin_with: str | list[int] | None = None, **sampling: Any
    ) -> FakeStream:
        begin = begin_with if isinstance(begin_with, str) else self.detokenize(begin_with or [])
        stream = FakeStream(messages, sampling, begin)
        stream.begin_with = begin_with
        if self.script:
            stream.say(*self.script.pop(0), None)
        self.streams.append(stream)
        self.begun.release()
        return stream

    def next_stream(self) -> FakeStream:
        assert self.begun.acquire(timeout=WAIT_S)
        return self.streams[-1]


class Watcher:
    """Collects events and waits for one."""

    def __init__(self, chat: ChatInterface) -> None:
        self.events: list[ChatEvent] = []
        self._changed = threading.Condition()
        chat.subscribe(self._take)

    def _take(self, event: ChatEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, found: Callable[[ChatEvent], bool]) -> ChatEvent:
        def first() -> ChatEvent | None:
            return next((event for event in self.events if found(event)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: first() is not None, WAIT_S), self.events
            event = first()
        assert event is not None
        return event

    def wait_end(self) -> ChatEvent:
        """Wait for the first answer that has ended since this watches."""
        return self.wait_for(
            lambda event: (
                event.kind is EventKind.UPDATED
                and event.message is not None
                and event.message.status is not MessageStatus.STREAMING
            )
        )


def said(chat: ChatInterface) -> list[tuple[str, str, str]]:
    return [(m.role, m.content, str(m.status)) for m in chat.messages]
