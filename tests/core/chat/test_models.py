"""A conversation with real workers: the scripted backend, and the demo model on llama.cpp."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import threading
import time

import pytest

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatEvent, EventKind, MessageStatus
from gguf_widgets.core.errors import ContextOverflowError, ModelUnloadedError, WorkerDiedError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import takes_at_most

WAIT_S = 40.0


class Texts:
    """Waits until so many pieces of text have come, or the end."""

    def __init__(self, chat: ChatInterface) -> None:
        self.deltas = threading.Semaphore(0)
        self.ended = threading.Event()
        chat.subscribe(self._take)

    def _take(self, event: ChatEvent) -> None:
        if event.kind is EventKind.DELTA:
            self.deltas.release()
        if event.kind is EventKind.UPDATED:
            self.ended.set()

    def wait_some(self, count: int = 3) -> None:
        for _ in range(count):
            assert self.deltas.acquire(timeout=WAIT_S)


def test_a_conversation_with_a_worker(manager: ModelManager, store: Store) -> None:
    model = manager.load(n_ctx=4096)
    with ChatInterface(model, store=store, temperature=0, seed=5) as chat:
        reply = chat.send("Tell me a story")
        assert "Emma" in reply.text
        assert chat.messages[-1].content == reply.text
        assert chat.messages[-1].seed == 5
        assert chat.context_used == (reply.usage.num_context_tokens, 4096)
        assert "".join(delta.text for delta in chat.stream("Hello")) == chat.messages[-1].content
        assert asyncio.run(chat.asend("Help")).finish_reason is FinishReason.STOP
        assert len(chat.messages) == 6
        assert chat.to_frame()["ttft_s"].notna().sum() == 3


def test_stop_ends_a_long_answer_within_a_second(
    manager: ModelManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    model = manager.load()

    def stop() -> float:
        with ChatInterface(model, store=store) as chat:
            texts = Texts(chat)
            chat.start("Tell me a story")
            texts.wait_some()
            begun = time.monotonic()
            chat.stop()
            assert texts.ended.wait(WAIT_S)
            took_s = time.monotonic() - begun
            answer = chat.messages[-1]
        assert (answer.status, answer.finish_reason) == (MessageStatus.ABORTED, "aborted")
        assert answer.content
        assert answer.usage is not None
        return took_s

    takes_at_most(1.0, stop)


def test_a_killed_worker_costs_one_answer(
    manager: ModelManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    model = manager.load()
    with ChatInterface(model, store=store) as chat:
        texts = Texts(chat)
        chat.start("Tell me a story")
        texts.wait_some()
        assert model.pid is not None
        os.kill(model.pid, signal.SIGKILL)
        assert texts.ended.wait(WAIT_S)
        failed = chat.messages[-1]
        assert failed.status is MessageStatus.FAILED
        assert failed.error is not None
        assert failed.error["kind"] == WorkerDiedError.__name__
        assert failed.content
        # The next message starts the worker again by itself.
        assert chat.send("Hello", max_tokens=20).text
        with ChatInterface(store=store, conversation_id=chat.conversation_id) as again:
            assert again.messages == chat.messages


def test_a_message_that_does_not_fit_is_refused_in_numbers_and_not_lost(
    manager: ModelManager, store: Store
) -> None:
    with ChatInterface(manager.load(n_ctx=512), store=store) as chat:
        with pytest.raises(ContextOverflowError):
            chat.send("word " * 2000)
        assert chat.messages[0].content == "word " * 2000
        assert chat.send("Hello", max_tokens=20).text


def test_an_unloaded_model_is_an_error_of_the_message(manager: ModelManager, store: Store) -> None:
    model = manager.load()
    with ChatInterface(model, store=store) as chat:
        manager.unload(model)
        with pytest.raises(ModelUnloadedError):
            chat.send("Hello")
        chat.model = manager.load()
        assert chat.send("Hello", max_tokens=5).text


def test_a_model_that_is_unloaded_in_the_middle_of_an_answer_is_told_as_that(
    manager: ModelManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    model = manager.load()
    with ChatInterface(model, store=store) as chat:
        texts = Texts(chat)
        chat.start("Tell me a story")
        texts.wait_some()
        manager.unload(model)
        assert texts.ended.wait(WAIT_S)
        answer = chat.messages[-1]
        assert answer.content
        assert answer.error is not None
        assert answer.error["kind"] == ModelUnloadedError.__name__
        assert "unloaded while it wrote this answer" in answer.error["message"]
        chat.model = manager.load()
        assert chat.send("Hello", max_tokens=5).text


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or not demo_model_path().exists(),
    reason="needs llama-cpp-python and the demo model",
)
def test_the_demo_model_answers_and_repeats_itself_with_its_seed(
    no_leaks: None, store: Store
) -> None:
    manager = ModelManager(keep_alive=0)
    try:
        with ChatInterface(manager.load("demo", n_threads=1), store=store, max_tokens=24) as chat:
            first = chat.send("Hello! Who are you?")
            assert first.text.strip()
            seed = chat.messages[-1].seed
            texts = Texts(chat)
            chat.regenerate(seed=seed)
            assert texts.ended.wait(WAIT_S)
            assert chat.messages[-1].content == first.text
            second = chat.send("What is the capital of France?", temperature=0)
            # The earlier turns are in the prompt.
            assert second.usage.num_prompt_tokens > first.usage.num_context_tokens
            check_branches(chat)
    finally:
        manager.close()


def check_branches(chat: ChatInterface) -> None:
    """Check that going on and branching are exact, token by token, and reuse what was computed."""
    whole = chat.send("Tell me a story about a cat.", temperature=0, max_tokens=20).text
    chat.edit(chat.messages[-2].id, "Tell me a story about a cat.", temperature=0, max_tokens=8)
    chat._answer and chat._answer.result()
    half = chat.messages[-1]
    assert whole.startswith(half.content)
    chat.continue_answer(temperature=0, max_tokens=12)
    chat._answer and chat._answer.result()
    longer = chat.messages[-1]
    assert (longer.content, longer.begin) == (whole, half.content)
    assert half.usage is not None
    assert longer.usage is not None
    assert longer.usage.num_prompt_tokens == half.usage.num_context_tokens
    assert longer.usage.num_cached_tokens >= half.usage.num_prompt_tokens
    tokens = chat.tokens(longer.id)
    assert tokens is not None
    assert len(tokens) == 20
    assert "".join(token.text for token in tokens) == whole
    other = next(c for c in tokens[4].top if c.token != tokens[4].token)
    chat.branch_at(longer.id, 4, other.token, temperature=0, max_tokens=4)
    chat._answer and chat._answer.result()
    branch = chat.messages[-1]
    start = "".join(token.text for token in tokens[:4]) + other.text
    assert branch.content.startswith(start)
    told = chat.tokens(branch.id)
    assert told is not None
    assert [token.token for token in told[:5]] == [*(t.token for t in tokens[:4]), other.token]
    assert chat.snapshot().branches[branch.id] == (3, 3)
