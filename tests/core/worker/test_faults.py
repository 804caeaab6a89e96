"""Real processes that are killed, stopped or deaf at random moments, while others stream.

After each: every request has had exactly one end, and no process, thread, socket, entry or
descriptor is left (`no_leaks`); a worker that lives on has nothing of the dead in it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from support.kernel import Kernel
from support.peer import Peer
from support.record import Record, ask_for_story

from gguf_widgets.core.errors import WorkerBusyError, WorkerError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import Failed, Finished, FinishReason, TextDelta
from gguf_widgets.core.worker import client as client_module
from gguf_widgets.core.worker import protocol, registry
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.link import WorkerLink
from gguf_widgets.core.worker.protocol import Prompt
from tests.core.conftest import wait_for

NUM_LANES = 2  # workers at a time: while one starts, the other is killed
NUM_STREAMS = 8
ON_AND_ON = {"ignore_eos": True, "max_tokens": 5000}  # the demo model's own replies are short


def _idle(model: object) -> bool:
    stats = model.stats()  # type: ignore[attr-defined]
    engine = stats.engine
    return (
        stats.num_requests == engine.num_running == engine.num_waiting == engine.num_cells_used == 0
    )


class Lane:
    """One worker that is killed again and again, and the two clients that keep coming back."""

    def __init__(self, number: int, num_kills: int, longest_s: float, sampling: Any) -> None:
        self.chance = random.Random(number)  # noqa: S311 - dice, not secrets
        self.num_kills, self.longest_s, self.sampling = num_kills, longest_s, sampling
        self.n_ctx = 8192 + number * 256
        self.managers = [ModelManager(keep_alive=60) for _ in range(2)]
        self.num_killed = {"loading": 0, "streaming": 0}
        self.num_ends = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            models = [manager.load(n_ctx=self.n_ctx) for manager in self.managers]
            links = [model._link for model in models]
            while sum(self.num_killed.values()) < self.num_kills:
                self.kill_while_it_streams(links)
                if self.chance.random() < 0.2:
                    self.kill_while_it_loads(links[0])
            assert all(model.chat("Hello", max_tokens=2).text for model in models)
            assert _idle(models[0])
            assert models[0].stats().num_clients == 2
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            self.problem = error
        finally:
            for manager in self.managers:
                for model in manager.loaded():
                    model.unload()
                manager.close()

    def kill_while_it_streams(self, links: list[WorkerLink]) -> None:
        clients = [link.client() for link in links]
        records: list[Record] = []
        with contextlib.suppress(WorkerError):  # it may die before all are sent
            moment = self.chance.uniform(0, self.longest_s)
            killer = threading.Timer(moment, self.kill, (clients[0].pid,))
            killer.start()
            records.extend(
                ask_for_story(clients[number % 2], **self.sampling) for number in range(NUM_STREAMS)
            )
        killer.join()
        self.num_killed["streaming"] += 1
        for record in records:
            assert record.last.wait(40), "a request has no end"
        for client in clients:
            client._thread.join(40)
        for record in records:
            end = record.the_end()
            assert isinstance(end, Failed), end
            assert end.error["kind"] == "WorkerDiedError"
            self.num_ends += 1

    def kill_while_it_loads(self, link: WorkerLink) -> None:
        loading = threading.Thread(target=self.try_to_load, args=(link,))
        loading.start()
        deadline = time.monotonic() + 40
        mine: list[int] = []
        while not mine and time.monotonic() < deadline:
            time.sleep(0.005)
            mine = [e.pid for e in registry.list_workers() if e.requested.n_ctx == self.n_ctx]
        time.sleep(self.chance.uniform(0, 0.02))
        self.kill(mine[0])
        self.num_killed["loading"] += 1
        loading.join(40)
        assert not loading.is_alive(), "a loading has no end"

    @staticmethod
    def try_to_load(link: WorkerLink) -> None:
        with contextlib.suppress(WorkerError):
            link.client()

    @staticmethod
    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a hundred starts of a process, on a machine that may be busy
@pytest.mark.parametrize(
    ("backend", "num_kills", "longest_s", "sampling"),
    [("scripted", 100, 0.08, {}), ("llama.cpp", 20, 0.5, ON_AND_ON)],
    ids=["scripted, a hundred times", "llama.cpp, twenty times"],
)
def test_a_worker_killed_again_and_again_during_eight_streams_leaves_nothing_open(
    no_leaks: None,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    num_kills: int,
    longest_s: float,
    sampling: dict[str, Any],
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", backend)
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "400")  # a story takes seconds
    before = psutil.Process().num_fds()
    lanes = [
        Lane(number, num_kills // NUM_LANES, longest_s, sampling) for number in range(NUM_LANES)
    ]
    threads = [threading.Thread(target=lane.run) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lane in lanes:
        if lane.problem is not None:
            raise lane.problem
    assert sum(sum(lane.num_killed.values()) for lane in lanes) >= num_kills
    assert sum(lane.num_ends for lane in lanes) > num_kills * NUM_STREAMS / 2
    wait_for(lambda: psutil.Process().num_fds() <= before, "no descriptor is left open")


def test_clients_killed_at_random_moments_leave_the_others_stream_and_the_worker_clean(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "1000")
    chance = random.Random(7)  # noqa: S311
    model = manager.load()
    whole = model.chat("Tell me a story", temperature=0).text
    for _ in range(3):
        kernels = [Kernel() for _ in range(3)]
        for kernel in kernels:
            for what in ("load", *["stream"] * 3):
                kernel.write(what)
        streams = [model.stream("Tell me a story", temperature=0) for _ in range(2)]
        time.sleep(chance.uniform(0.2, 1.4))  # from the start of Python to the middle of a story
        for kernel in kernels:
            kernel.kill()
        for stream in streams:
            assert "".join(delta.text for delta in stream) == whole
            assert stream.result().finish_reason is FinishReason.STOP
        wait_for(lambda: _idle(model), "what the dead had asked for has gone")
        wait_for(lambda: model.stats().num_clients == 1, "they have gone themselves")


# Stories without an end, as fast as the engine goes.
ENDLESS = """
from gguf_widgets.core.engine import scripted
scripted.ScriptedBackend.open = classmethod(
    lambda cls, settings, on_progress: cls(settings, lambda memory, num_prompt: 97)
)
"""


def _gaps_and_texts(observer: Peer, seconds: float) -> tuple[list[float], int]:
    """Read for a while; return the times between two looks that brought text, and how much."""
    gaps, num_tokens = [], 0
    last = time.perf_counter()
    end = last + seconds
    while last < end:
        message = observer.receive()
        now = time.perf_counter()
        if isinstance(message, TextDelta):
            num_tokens += len(message.text)
            gaps.append(now - last)
            last = now
    return gaps, num_tokens


def test_a_slow_reader_does_not_slow_the_others(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker(ENDLESS)
    model = manager.load(n_ctx=1_000_000, n_seq_max=8)
    prompt = Prompt(text="x")
    ratios = []
    for _ in range(5):
        figures = {}
        for reads in (True, False):
            # The same load beside the observer, once by a client that reads and once by a deaf one.
            with Peer() as observer, Peer(receive_buffer=4096) as neighbour:
                neighbour.hello()
                observer.hello()
                for number in range(4):
                    neighbour.generate(number, prompt=prompt, max_tokens=100_000)
                if reads:
                    reader = threading.Thread(target=_read_until_the_end, args=(neighbour,))
                    reader.start()
                observer.generate(1, prompt=prompt, max_tokens=100_000)
                _gaps_and_texts(observer, 0.4)  # until the deaf one's socket is full
                figures[reads] = _gaps_and_texts(observer, 0.5)
                if reads:
                    neighbour.hang_up()
                    reader.join(40)
            wait_for(lambda: _idle(model), "they have gone")
        (gaps, tokens), (deaf_gaps, deaf_tokens) = figures[True], figures[False]
        ratios.append((deaf_tokens / tokens, _high(gaps) / _high(deaf_gaps)))
        if min(ratios[-1]) > 0.8:
            return  # as fast, and as even, beside the deaf one as beside the other
    raise AssertionError(f"slower beside a deaf client, each time: {ratios}")


def _high(gaps: list[float]) -> float:
    return statistics.quantiles(gaps, n=20)[-1]


def _read_until_the_end(peer: Peer) -> None:
    while peer.receive() is not None:
        pass


def test_requests_to_a_worker_that_does_not_read_are_bounded_and_end_once(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_MAX_UNSENT_BYTES", 2_000_000)
    client: WorkerClient = manager.load()._link.client()
    os.kill(client.pid, signal.SIGSTOP)
    records: list[Record] = []

    def fill() -> None:
        while len(records) < 200:
            record = Record()
            client.submit(
                lambda request_id: protocol.Tokenize(request_id=request_id, text="x" * 100_000),
                record,
            )
            records.append(record)
            time.sleep(0.01)  # the socket belongs to another thread

    try:
        with pytest.raises(WorkerBusyError, match="wait to be sent") as caught:
            fill()
        assert caught.value.details["scope"] == "connection"
        assert caught.value.details["retry_after_s"] > 0
    finally:
        os.kill(client.pid, signal.SIGCONT)
    for record in records:
        assert record.last.wait(40)
        assert len(record.the_end().tokens) == 100_000


def test_a_worker_killed_while_its_socket_is_full_ends_each_request_once(
    manager: ModelManager,
) -> None:
    client: WorkerClient = manager.load()._link.client()
    os.kill(client.pid, signal.SIGSTOP)
    records = [ask_for_story(client) for _ in range(2000)]  # more than a socket holds
    os.kill(client.pid, signal.SIGKILL)
    for record in records:
        assert record.last.wait(40)
    client.close()
    assert {record.the_end().error["kind"] for record in records} == {"WorkerDiedError"}


def test_a_stopped_worker_that_goes_on_has_lost_nothing(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was asleep, or a worker that somebody has debugged."""
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "2000")
    client = manager.load()._link.client()
    records = [ask_for_story(client, temperature=0) for _ in range(3)]
    assert records[0].first.wait(40)
    for _ in range(3):
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(client.pid, signal.SIGCONT)
        time.sleep(0.05)
    for record in records:
        assert record.last.wait(40)
        end = record.the_end()
        assert isinstance(end, Finished)
        assert end.reply.text == record.text
