"""The way of a prefix through a worker: one answer each, whatever happens to it on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.histories import make

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.scripted import Fault, demo_info
from gguf_widgets.core.errors import (
    ContextOverflowError,
    DecodeError,
    RequestCancelledError,
    StateFileError,
    WorkerBusyError,
)
from gguf_widgets.core.state_identity import ModelFiles
from gguf_widgets.core.types import Finished, GenerateRequest, SamplingSettings
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.engine_thread import EngineThread
from gguf_widgets.core.worker.loading import LoadedModel
from gguf_widgets.core.worker.prefixes import PrefixRequests

TEXT = "Once upon a time there was a model. " * 5


class Open:
    in_engine = False
    aborted = False


class Desk:
    """What `Requests` is to `PrefixRequests`, and the engine's listener."""

    def __init__(self, engine: Engine) -> None:
        self.open: dict[str, Open] = {}
        self.answers: dict[str, Any] = {}
        self.heard: list[Any] = []
        self.changed = asyncio.Event()
        model = LoadedModel(engine=engine, info=demo_info(), files=ModelFiles("", "scripted"))
        self.thread = EngineThread(lambda: model, self)
        self.thread.start()
        self.prefixes = PrefixRequests(self.thread, model, self.open, self.answer, self.fail)

    def answer(self, request_id: str, answer: Any) -> None:
        if self.open.pop(request_id, None) is not None:
            assert request_id not in self.answers
            self.answers[request_id] = answer
            self.changed.set()

    def fail(self, request_id: str, error: BaseException) -> None:
        self.answer(request_id, error)

    def save(self, name: str, path: Path, text: str = TEXT) -> None:
        self.open[name] = Open()
        prompt = protocol.Prompt(text=text)
        message = protocol.SavePrefix(request_id=name, prompt=prompt, path=str(path))
        self.prefixes.save(name, self.prefixes.prepare(message, "c1"))

    def restore(self, name: str, path: Path) -> None:
        self.open[name] = Open()
        self.prefixes.restore(protocol.RestorePrefix(request_id=name, path=str(path)))

    async def wait(self) -> dict[str, Any]:
        while self.open:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)
        return self.answers

    # The listener.

    def loaded(self, model: Any) -> None: ...

    def load_failed(self, error: BaseException) -> None:
        raise AssertionError(error)

    def events(self, events: list[Any]) -> None:
        self.heard += events

    def broken(self, error: BaseException) -> None:
        raise AssertionError("the engine failed") from error

    def close(self) -> None:
        self.open.clear()
        self.prefixes.close()
        self.thread.finish()
        self.thread.join(10)
        assert not self.thread.is_alive()


def with_desk(engine: Engine, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        desk = Desk(engine)
        try:
            await test(desk)
        finally:
            desk.close()

    asyncio.run(run())


def small(**more: Any) -> Engine:
    return make(n_ctx=400, n_batch=16, **more)


def test_the_listener_hears_nothing_of_what_is_computed_for_a_file(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.save("s", tmp_path / "a")
        visible = GenerateRequest(
            request_id="v",
            client_id="c2",
            prompt_tokens=[9] * 40,
            sampling=SamplingSettings(max_tokens=3),
        )
        desk.thread.add_request(visible)
        (answer,) = (await desk.wait()).values()
        assert answer.info.num_tokens > 100
        assert answer.info.num_cached_tokens == 0
        desk.restore("r", tmp_path / "a")
        assert (await desk.wait())["r"].info.num_cached_tokens == answer.info.num_tokens
        while not any(isinstance(event, Finished) for event in desk.heard):
            await asyncio.sleep(0.01)
        assert {event.request_id for event in desk.heard} == {"v"}

    with_desk(small(), test)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda engine: setattr(engine.prefixes, "copy", lambda _: None), WorkerBusyError),
        (lambda engine: setattr(engine.backend, "state_seq_get", _fails), DecodeError),
        (lambda engine: setattr(engine.backend, "_fault", lambda _: Fault(-3)), DecodeError),
        (lambda engine: setattr(engine, "add_request", _overflows), ContextOverflowError),
        (lambda engine: setattr(engine.prefixes, "copy", _breaks), RuntimeError),
    ],
)
def test_a_fault_in_the_engine_is_the_answer_and_the_engine_goes_on(
    fault: Callable[[Engine], None], kind: type[Exception], tmp_path: Path
) -> None:
    engine = small()
    num_computed = 0
    add = engine.add_request

    def counting(request: GenerateRequest) -> None:
        nonlocal num_computed
        num_computed += 1
        add(request)

    engine.add_request = counting  # type: ignore[method-assign]

    async def test(desk: Desk) -> None:
        fault(engine)
        desk.save("s", tmp_path / "a")
        (answer,) = (await desk.wait()).values()
        assert type(answer) is kind
        if kind is WorkerBusyError:
            assert num_computed == 3  # it is tried again, and not for ever
        assert list(tmp_path.glob("*a*")) == []
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        desk.thread.call(lambda _: loop.call_soon_threadsafe(done.set))
        await asyncio.wait_for(done.wait(), 10)
        assert desk.heard == []

    with_desk(engine, test)


def _fails(_: int) -> None:
    raise DecodeError("no state")


def _breaks(_: object) -> None:
    raise RuntimeError("a fault of ours")


def _overflows(_: object) -> None:
    raise ContextOverflowError("too long")


def test_it_can_be_stopped_at_each_stage(tmp_path: Path) -> None:
    hold, reached = threading.Event(), threading.Event()

    def slowly(_: Any) -> None:
        reached.set()
        hold.wait(10)

    engine = small(fault=slowly)

    async def test(desk: Desk) -> None:
        async def until_reached() -> None:
            while not reached.is_set():
                await asyncio.sleep(0.005)
            reached.clear()

        # While it is computed: the engine ends it, and its end is the answer.
        desk.save("computing", tmp_path / "a")
        await until_reached()
        assert desk.open["computing"].in_engine
        desk.thread.abort("computing")
        hold.set()
        assert type((await desk.wait())["computing"]) is RequestCancelledError
        # When it has been copied, before it is written.
        desk.save("copied", tmp_path / "a")
        desk.open["copied"].aborted = True
        assert type((await desk.wait())["copied"]) is RequestCancelledError
        assert list(tmp_path.glob("*a*")) == []
        # While it is read, or before: nobody waits, nothing is put anywhere.
        desk.save("saved", tmp_path / "a")
        await desk.wait()
        desk.restore("read", tmp_path / "a")
        del desk.open["read"]
        desk.restore("again", tmp_path / "a")
        assert (await desk.wait())["again"].info.num_tokens > 100
        assert "read" not in desk.answers

    with_desk(engine, test)


def test_what_the_files_thread_meets_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(desk: Desk) -> None:
        desk.save("a", tmp_path / "a")
        await desk.wait()
        desk.restore("missing", tmp_path / "none")
        assert (await desk.wait())["missing"].details["problem"] == "missing"
        # It came after it had been looked whether something is there.
        prefixes = desk.prefixes
        prompt = protocol.Prompt(text=TEXT)
        late = tmp_path / "late"
        message = protocol.SavePrefix(request_id="late", prompt=prompt, path=str(late))
        save = prefixes.prepare(message, "c1")
        late.write_text("theirs")
        desk.open["late"] = Open()
        prefixes.save("late", save)
        answer = (await desk.wait())["late"]
        assert isinstance(answer, StateFileError)
        assert answer.details["problem"] == "exists"
        assert late.read_text() == "theirs"
        # Too little memory to carry it.
        monkeypatch.setattr("gguf_widgets.core.engine.state.free_memory", lambda: 100)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def forget(engine: Any) -> None:
            engine.clear_cache()
            loop.call_soon_threadsafe(done.set)

        desk.thread.call(forget)
        await asyncio.wait_for(done.wait(), 10)
        desk.restore("large", tmp_path / "a")
        assert (await desk.wait())["large"].details["problem"] == "no_room"

    with_desk(small(), test)
