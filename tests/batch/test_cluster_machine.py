"""The run's end of a machine, with machines that answer whatever they like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import gguf_widgets
from gguf_widgets.batch.cluster import Cluster
from gguf_widgets.batch.cluster import machine as machine_module
from gguf_widgets.batch.cluster import machines as machines_module
from gguf_widgets.batch.cluster.checking import error_of
from gguf_widgets.batch.cluster.dask_client import NoAnswerError
from gguf_widgets.batch.cluster.machine import Machine
from gguf_widgets.batch.cluster.machines import Machines
from gguf_widgets.batch.cluster.messages import (
    MAX_BYTES,
    PROTOCOL,
    Answered,
    Fault,
    Identity,
    Job,
    Letter,
    ModelFile,
    Report,
    decode,
    encode,
)
from gguf_widgets.batch.places import GivenBack
from gguf_widgets.batch.question import Answer, Question
from gguf_widgets.batch.spec import ModelRef, identity_of
from gguf_widgets.core.errors import (
    BatchError,
    ContextOverflowError,
    GgufWidgetsError,
    GrammarError,
    InvalidValueError,
    WorkerDiedError,
    WorkerError,
)
from gguf_widgets.core.types import FinishReason, Message, Reply, Timings, Usage
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import wait_for

TIMINGS = Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=0, total_s=0)
REPLY = Reply(
    text="fine",
    finish_reason=FinishReason.STOP,
    usage=Usage(num_prompt_tokens=1, num_completion_tokens=1),
    timings=TIMINGS,
    seed=1,
)
JOB = Job(run_id="0" * 32, name="demo", model=ModelFile(path="/m", sha256=("0" * 64,), size=1))
READY = Report(state="ready", room=8)


class FakeSent:
    def __init__(self, result: object) -> None:
        self._result, self._calls = result, list[Callable[[], None]]()
        self.is_done = result is not None

    def when_done(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if self.is_done:
            call()

    def answer(self, result: object) -> None:
        self._result, self.is_done = result, True
        for call in self._calls:
            call()

    def result(self) -> object:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def drop(self) -> None: ...


class FakeDask:
    """A cluster whose machines' answers a test decides: bytes, an error, or None for later."""

    def __init__(self, decide: Callable[[Letter, bool], object]) -> None:
        self.state = "running"
        self.letters: list[Letter] = []
        self.sent: list[FakeSent] = []
        self.there: dict[str, object] = {}
        self._decide = decide

    def send(self, _address: str, data: bytes, *, waits: bool) -> FakeSent:
        letter = decode(data, Letter)
        self.letters.append(letter)
        sent = FakeSent(b"" if letter.close else self._decide(letter, waits))
        self.sent.append(sent)
        if letter.close:  # whoever waits there has an answer then
            for one in self.sent:
                one.answer(b"")
        return sent

    def machines(self) -> list[str]:
        return list(self.there)

    def version(self, address: str) -> FakeSent:
        found = self.there[address]
        return FakeSent(decode(found, Identity).version if isinstance(found, bytes) else found)

    def identify(self, address: str) -> FakeSent:
        return FakeSent(self.there[address])


def identity(machine: str = "a", **more: Any) -> Identity:
    known = {"version": gguf_widgets.__version__, "protocol": PROTOCOL, "host": "h", "name": "n"}
    return Identity(machine=machine, pid=1, **{**known, **more})


def question(number: int, text: str = "Hello") -> Question:
    messages = [Message(role="user", content=text)]
    return Question(number, f"{number:032x}", messages, {}, lambda _reply: Answer({}))


class Bench:
    def __init__(self, decide: Callable[[Letter, bool], object]) -> None:
        self.dask = FakeDask(decide)
        self.machine = Machine(
            self.dask,
            "tcp://h:1",
            identity(),
            JOB,
            on_change=lambda: None,  # type: ignore[arg-type]
        )
        self.ends: dict[int, list[Any]] = {}

    def ask(self, one: Question) -> Any:
        ends = self.ends.setdefault(one.number, [])
        return self.machine.ask(one, ends.append)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(decide: Callable[[Letter, bool], object]) -> Bench:
        made.append(Bench(decide))
        return made[-1]

    yield make
    for one in made:
        one.machine.close()
        one.machine.join(10)
        assert not one.machine._thread.is_alive()


New = Callable[[Callable[[Letter, bool], object]], Bench]


def obedient(letter: Letter, waits: bool) -> object:
    """As a machine should: whatever it is asked is answered at once."""
    if waits:
        return None
    answered = [Answered(number=one.number, reply=REPLY) for one in letter.ask]
    return encode(msgspec.structs.replace(READY, answered=answered))


def raw(**report: Any) -> bytes:
    return msgspec.msgpack.encode({"state": "ready", "room": 8, **report})


HOSTILE: dict[str, object] = {
    "no message": b"rubbish",
    "nothing": b"",
    "no bytes": {"state": "ready"},
    "too many bytes": bytes(MAX_BYTES + 1),
    "a state there is not": raw(state="splendid"),
    "a field there is not": raw(more=1),
    "deep": b"\x91" * 100_000,
    "no list": raw(answered={"number": 7}),
    "a reply that is none": raw(answered=[{"number": 7, "reply": {"text": 1}}]),
    "an end there is not": raw(
        answered=[
            {
                "number": 7,
                "reply": {**msgspec.to_builtins(REPLY), "finish_reason": "because"},
            }
        ]
    ),
    "what was not asked": raw(answered=[{"number": 8}]),
    "failed without a word": raw(state="failed"),
    "started again": raw(state="unknown"),
    "Dask's error": NoAnswerError("KilledWorker: it died"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_machine_answers_each_question_has_one_end(bench: New, what: str) -> None:
    def decide(letter: Letter, waits: bool) -> object:
        if waits:
            return None
        return HOSTILE[what] if letter.ask else encode(READY)

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(7))
    wait_for(lambda: one.machine.state in ("lost", "refused"), "it is let go of")
    assert one.machine.reason
    assert len(one.machine.reason) < 1000
    wait_for(lambda: one.ends[7], "its end")
    assert [type(end) for end in one.ends[7]] == [WorkerDiedError]
    one.ask(question(9))
    assert [type(end) for end in one.ends[9]] == [GivenBack]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 2**63},
        {"usage": {"num_prompt_tokens": -1}},
        {"usage": {"num_prompt_tokens": 2**60}},
        {"timings": {**msgspec.to_builtins(TIMINGS), "total_s": float("nan")}},
        {"logprobs": [[1, "a", float("nan"), []]]},
    ],
)
def test_numbers_that_cannot_be_are_not_kept(bench: New, wrong: dict[str, Any]) -> None:
    reply = {**msgspec.to_builtins(REPLY), **wrong}
    answer = raw(answered=[{"number": 7, "reply": reply}])
    one = bench(lambda letter, waits: None if waits else answer if letter.ask else encode(READY))
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(7))
    wait_for(lambda: one.machine.state == "refused", "it is let go of")
    assert "numbers that cannot be" in one.machine.reason
    assert [type(end) for end in one.ends[7]] == [GivenBack], "another machine is asked"


def test_errors_of_a_machine_become_ours_whatever_they_hold() -> None:
    details = {
        "message": "again",
        "self": 1,
        "cls": 2,
        "data": b"bytes",
        "rows": {"a": [1, "b"]},
        "deep": [[[[1]]]],
        "many": list(range(1000)),
        "big": 2**70,
        "path": "/m",
        "x" * 1000: 1,
        "no name": 1,
    }
    for kind in ("RowError", "WorkerBusyError", "KeyboardInterrupt", "", "object"):
        error = error_of(Fault(kind=kind, message="\x1b[31m" + "long " * 10_000, details=details))
        assert isinstance(error, GgufWidgetsError)
        assert len(error.message) < 5000
        assert "\x1b" not in error.message
        assert set(error.details) <= {"message", "self", "cls", "path", "rows", "retry_after_s"}
    for late in ("soon", float("inf"), -5, None, 1e12):
        busy = error_of(Fault(kind="WorkerBusyError", message="", details={"retry_after_s": late}))
        assert 0 <= busy.details["retry_after_s"] <= 60


def test_answering_twice_is_answering_what_was_not_asked(bench: New) -> None:
    def decide(letter: Letter, waits: bool) -> object:
        twice = [Answered(number=one.number, reply=REPLY) for one in letter.ask] * 2
        return None if waits else encode(msgspec.structs.replace(READY, answered=twice))

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(7))
    wait_for(lambda: one.machine.state == "refused", "it is let go of")
    assert one.ends[7] == [REPLY]
    assert "not asked: row 7" in one.machine.reason


@pytest.mark.parametrize(
    ("kind", "becomes", "state"),
    [
        ("ContextOverflowError", ContextOverflowError, "ready"),
        ("GrammarError", GrammarError, "ready"),
        ("WorkerDiedError", WorkerDiedError, "ready"),
        ("Exception", WorkerError, "ready"),
        ("NotEnoughMemoryError", GivenBack, "refused"),
        ("ModelUnloadedError", GivenBack, "refused"),
    ],
)
def test_a_rows_fault_is_the_rows_and_a_machines_the_machines(
    bench: New, kind: str, becomes: type, state: str
) -> None:
    def decide(letter: Letter, waits: bool) -> object:
        fault = Fault(kind=kind, message="It cannot.")
        answered = [Answered(number=one.number, error=fault) for one in letter.ask]
        return None if waits else encode(msgspec.structs.replace(READY, answered=answered))

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(7))
    wait_for(lambda: one.ends[7], "its end")
    assert [type(end) for end in one.ends[7]] == [becomes]
    wait_for(lambda: one.machine.state == state, "what becomes of the machine")


def test_what_stands_beside_a_machines_fault_is_an_answer_all_the_same(bench: New) -> None:
    held = threading.Event()

    def decide(letter: Letter, waits: bool) -> object:
        return None if waits or held.is_set() else obedient(letter, waits)

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    held.set()
    for number in (1, 2, 3):
        one.ask(question(number))
    wait_for(lambda: any(letter.ask for letter in one.dask.letters), "some are sent")
    at = next(i for i, letter in enumerate(one.dask.letters) if letter.ask)
    asked = [letter.number for letter in one.dask.letters[at].ask]
    fault = Fault(kind="ModelUnloadedError", message="It is gone.")
    answered = [Answered(number=number, reply=REPLY) for number in asked]
    answered[0] = Answered(number=asked[0], error=fault)
    one.dask.sent[at].answer(encode(msgspec.structs.replace(READY, answered=answered)))
    wait_for(lambda: one.machine.state == "refused", "it is let go of")
    assert one.machine.reason == "It is gone."
    assert [type(end) for end in one.ends[asked[0]]] == [GivenBack]
    assert all(one.ends[number] == [REPLY] for number in asked[1:])


def test_what_was_not_sent_is_given_back_and_what_was_is_stopped_there(bench: New) -> None:
    held = threading.Event()

    def decide(letter: Letter, waits: bool) -> object:
        return None if waits or held.is_set() else obedient(letter, waits)

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    held.set()
    first = one.ask(question(1))
    wait_for(lambda: any(letter.ask for letter in one.dask.letters), "it is sent")
    second = one.ask(question(2))  # behind the first, whose letter has no report yet
    second.stop()
    assert [type(end) for end in one.ends[2]] == [GivenBack]
    first.stop()
    assert one.ends[1] == []
    held.clear()
    at = next(i for i, letter in enumerate(one.dask.letters) if letter.ask)
    one.dask.sent[at].answer(encode(READY))
    wait_for(lambda: any(letter.stop == [1] for letter in one.dask.letters), "it is stopped")
    assert sum(len(letter.ask) for letter in one.dask.letters) == 1


def test_an_answer_to_what_has_not_been_sent_yet_leaves_it_its_end(bench: New) -> None:
    held = threading.Event()

    def decide(letter: Letter, waits: bool) -> object:
        return None if waits or held.is_set() else obedient(letter, waits)

    one = bench(decide)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    held.set()
    one.ask(question(1))
    wait_for(lambda: any(letter.ask for letter in one.dask.letters), "it is sent")
    one.ask(question(2))  # waits for the first one's report
    at = next(i for i, letter in enumerate(one.dask.letters) if letter.ask)
    early = [Answered(number=2, reply=REPLY)]
    one.dask.sent[at].answer(encode(msgspec.structs.replace(READY, answered=early)))
    wait_for(lambda: one.ends[1] and one.ends[2], "both ends")
    assert [type(end) for end in one.ends[2]] == [GivenBack]


def test_a_row_that_cannot_be_written_is_refused_before_it_travels(bench: New) -> None:
    one = bench(obedient)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    with pytest.raises(InvalidValueError, match="half a character"):
        one.ask(question(1, "x\ud800"))


def test_a_scheduler_that_is_gone_says_nothing_of_the_rows(bench: New) -> None:
    one = bench(lambda letter, waits: None if waits or letter.ask else encode(READY))
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(1))
    wait_for(lambda: any(letter.ask for letter in one.dask.letters), "it is sent")
    one.dask.state = "connecting"
    one.machine.lose("The connection was lost.")
    wait_for(lambda: one.ends[1], "its end")
    assert [type(end) for end in one.ends[1]] == [GivenBack]


def test_a_silent_machine_is_lost(bench: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "SILENT_S", 0.1)
    one = bench(lambda letter, waits: None if waits or letter.ask else encode(READY))
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    one.ask(question(1))
    wait_for(lambda: one.machine.state == "lost", "it is lost")
    assert "has not answered for" in one.machine.reason
    assert [type(end) for end in one.ends[1]] == [WorkerDiedError]


def test_long_prompts_travel_in_several_letters_and_too_long_ones_not_at_all(bench: New) -> None:
    one = bench(obedient)
    wait_for(lambda: one.machine.state == "ready", "it is ready")
    for number in range(8):
        one.ask(question(number, "x" * 400_000))
    wait_for(lambda: all(one.ends[i] == [REPLY] for i in range(8)), "all answers")
    assert max(len(encode(letter)) for letter in one.dask.letters) < 1_300_000
    with pytest.raises(InvalidValueError, match=r"has 3\d.*can be sent to a machine"):
        one.ask(question(8, "x" * (MAX_BYTES // 2 + 1)))


# -- all machines of a cluster ---------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Machines, FakeDask]]]:
    made: list[Machines] = []

    def make(there: dict[str, object], wait_s: float = 60.0) -> tuple[Machines, FakeDask]:
        dask = FakeDask(obedient)
        dask.there = there
        monkeypatch.setattr(machines_module, "DaskClient", lambda _client, _run: dask)
        monkeypatch.setattr(machines_module, "_LOOK_S", 0.02)
        given = Cluster.__new__(Cluster)
        for name, value in {"client": None, "paths": None, "fetch": None, "settings": {}}.items():
            object.__setattr__(given, name, value)
        object.__setattr__(given, "wait_s", wait_s)
        path = demo_model_path()
        reference = ModelRef("demo", str(path), identity_of(path))
        made.append(
            Machines(given, "0" * 32, reference, on_change=lambda: None, is_stopped=lambda: False)
        )
        return made[-1], dask

    yield make
    for one in made:
        one.close()


def test_workers_of_one_machine_share_it_and_another_takes_a_lost_ones_place(cluster: Any) -> None:
    there = {f"tcp://h:{i}": encode(identity("ab"[i // 2])) for i in range(4)}
    machines, dask = cluster(there)
    wait_for(lambda: len(machines.current()) == 2, "two machines of four workers")
    assert machines.note == ""
    before = {one.address for one in machines.current()}
    assert before == {"tcp://h:0", "tcp://h:2"}
    del dask.there["tcp://h:0"]
    wait_for(lambda: {one.address for one in machines.current()} - before, "the next one")
    assert {one.address for one in machines.current()} == {"tcp://h:1", "tcp://h:2"}
    assert "(tcp://h:0) was lost: It has left the cluster." in machines.note
    dask.there["tcp://h:9"] = encode(identity("c"))
    wait_for(lambda: len(machines.current()) == 3, "one that joins later")
    machines.close()
    closed = {letter.station for letter in dask.letters if letter.close}
    assert {one.name for one in machines._machines.values()} <= closed


def test_another_version_is_refused_and_said(cluster: Any) -> None:
    other = encode(identity("b", version="0.0.1"))
    machines, dask = cluster({"tcp://h:1": encode(identity()), "tcp://h:2": other})
    wait_for(lambda: len(machines.current()) == 1 and "tcp://h:2" in machines.note, "one of two")
    assert "it has gguf-widgets 0.0.1, and here is" in machines.note
    del dask.there["tcp://h:1"]  # Dask starts a lost worker again, which takes a while
    wait_for(lambda: "was lost" in machines.note, "it is lost")
    assert machines.current() == [], "which is no reason to end the run"
    dask.there["tcp://h:4"] = encode(identity())
    wait_for(lambda: len(machines.current()) == 1, "and it comes back")


def test_machines_without_the_package_end_the_run_with_what_to_do(cluster: Any) -> None:
    no_package = NoAnswerError("ModuleNotFoundError: No module named 'gguf_widgets'.")
    machines, _ = cluster({"tcp://h:3": no_package})
    with pytest.raises(
        BatchError, match=r"No machine of the cluster can.*'gguf_widgets'.*pip install"
    ):
        wait_for(lambda: machines.current() and False, "the error")


def test_workers_that_never_answer_are_waited_for_within_limits(cluster: Any) -> None:
    machines, _ = cluster({"tcp://h:1": None}, wait_s=0.2)
    with pytest.raises(BatchError, match="there and do not answer: 1"):
        wait_for(lambda: machines.current() and False, "the error")
    nobody, _ = cluster({}, wait_s=0.2)
    assert nobody.current() == []
    with pytest.raises(BatchError, match="has had no machine for"):
        wait_for(lambda: nobody.current() and False, "the error")


def test_a_worker_that_never_answers_does_not_end_the_wait_for_one_that_was_lost(
    cluster: Any,
) -> None:
    machines, dask = cluster({"tcp://h:1": encode(identity()), "tcp://h:2": None}, wait_s=1.0)
    wait_for(lambda: len(machines.current()) == 1, "one of two")
    asked_at = machines._asked["tcp://h:2"][1]
    wait_for(lambda: time.monotonic() - asked_at > 1.1, "nobody waits for the other any more")
    assert len(machines.current()) == 1
    del dask.there["tcp://h:1"]
    wait_for(lambda: "was lost" in machines.note, "it is lost")
    assert machines.current() == []
    dask.there["tcp://h:4"] = encode(identity("b"))
    wait_for(lambda: len(machines.current()) == 1, "another takes its place")
