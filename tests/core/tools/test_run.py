"""Running a tool: what it gives back, prints, raises; and when it never comes back. 3 seconds."""

# ruff: noqa: T201 - what tools print is what is tested

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.tools import Tool, for_model
from gguf_widgets.core.tools.printing import MAX_PRINTED, Printed
from gguf_widgets.core.tools.results import MAX_KEPT, MODEL_LIMIT, is_cut, to_text
from gguf_widgets.core.tools.run import MAX_HANGING, Outcome, Run

LONG_S = 30.0


def outcome(function: Callable[..., Any], timeout_s: float = LONG_S, **arguments: Any) -> Outcome:
    return Run(Tool(function, name="tried"), arguments, timeout_s).wait()


def test_a_result_its_prints_and_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    def add(a: int, b: int = 1) -> int:
        print("adding", a, b)
        print("a warning", file=sys.stderr)
        return a + b

    before = sys.stdout, sys.stderr
    found = outcome(add, a=2)
    assert (found.result, found.error) == ("3", None)
    assert found.printed == "adding 2 1\na warning\n"
    assert found.total_s > 0
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("", "")


class OddError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ValueError("bad city"), "ValueError: bad city (line "),
        (SystemExit(3), "SystemExit: 3 (line "),
        (KeyboardInterrupt(), "KeyboardInterrupt (line "),
        (GeneratorExit(), "GeneratorExit (line "),
        (OddError(), "OddError: (its message cannot be read) (line "),
        (RecursionError("deep"), "RecursionError: deep (line "),
        (asyncio.CancelledError(), "CancelledError (line "),
        (RuntimeError("\ud800"), "RuntimeError: � (line "),
        (RuntimeError("x" * 10_000), "RuntimeError: xxx"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_whatever_it_raises_becomes_words(failure: BaseException, words: str) -> None:
    def fails() -> None:
        print("so far")
        raise failure

    found = outcome(fails)
    assert found.result is None
    assert found.error is not None
    assert found.error.startswith(words)
    assert "Traceback" not in found.error
    assert len(found.error) < 3000
    assert found.printed == "so far\n"


def test_arguments_that_do_not_fit_run_nothing() -> None:
    ran: list[int] = []

    def takes(a: int) -> None:
        ran.append(a)

    assert "must be a whole number" in (outcome(takes, a="x").error or "")
    assert "needs 'a'" in (outcome(takes).error or "")
    assert not ran


def test_one_that_never_comes_back_is_left_at_its_limit_and_says_so() -> None:
    let_go = threading.Event()

    def hangs(number: int) -> str:
        print("begun", number)
        let_go.wait(LONG_S)
        print("too late")
        return "late"

    made = Tool(hangs)
    for number in range(MAX_HANGING):
        found = Run(made, {"number": number}, 0.05).wait()
        assert found.result is None
        assert "did not come back within 50 ms" in (found.error or "")
        assert "may still be running" in (found.error or "")
        assert found.printed == f"begun {number}\n"
    refused = Run(made, {"number": 9}, 0.05).wait()
    assert f"{MAX_HANGING} earlier calls" in (refused.error or "")
    assert refused.printed == ""
    let_go.set()
    deadline = time.monotonic() + LONG_S
    while Run(made, {"number": 10}, LONG_S).wait().error is not None:
        assert time.monotonic() < deadline
    assert sys.stdout is not None


def test_stop_ends_the_waiting_at_once() -> None:
    let_go, begun = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        let_go.wait(LONG_S)

    run = Run(Tool(hangs), {}, LONG_S)
    threading.Thread(target=lambda: (begun.wait(LONG_S), run.stop())).start()
    found = run.wait()
    let_go.set()
    assert found.stopped
    assert "You stopped it" in (found.error or "")
    assert found.total_s < LONG_S


def test_async_functions_run_and_are_cancelled() -> None:
    ended: list[str] = []

    async def waits(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "slept"

    assert outcome(waits, seconds=0).result == "slept"
    found = outcome(waits, 0.05, seconds=LONG_S)
    assert found.error == "It did not come back within 50 ms; it was cancelled."
    assert ended == ["cancelled"]


def test_prints_of_other_threads_go_where_they_went(capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = threading.Event(), threading.Event()

    def prints() -> None:
        print("mine")
        inside.set()
        outside.wait(LONG_S)
        print("mine, too")

    def other() -> None:
        inside.wait(LONG_S)
        print("theirs")
        outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert outcome(prints).printed == "mine\nmine, too\n"
    thread.join()
    assert capsys.readouterr().out == "theirs\n"


def test_what_is_printed_is_bounded_and_says_so() -> None:
    with Printed() as printed:
        for _ in range(3):
            print("x" * MAX_PRINTED, end="")
    assert printed.text.startswith("x" * MAX_PRINTED)
    assert printed.text.endswith(f"[{2 * MAX_PRINTED:,} more characters were printed]")


class Mood(enum.Enum):
    GOOD = "good"


@dataclasses.dataclass
class Point:
    x: int


class Model(BaseModel):
    name: str


class Loose:
    def __str__(self) -> str:
        return "a loose thing"


cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("as it is", "as it is"), (3, "3"), (True, "true"), (None, "Done."), ([1, "é"], '[1, "é"]'),
        ({"a": Mood.GOOD, Mood.GOOD: 1}, '{"a": "good", "good": 1}'), (Point(2), '{"x": 2}'),
        (Model(name="n"), '{"name": "n"}'), (dt.date(2026, 1, 31), '"2026-01-31"'),
        ((1, Path("/a")), '[1, "/a"]'), (np.float32(0.5), "0.5"), (np.arange(3), "[0, 1, 2]"),
        (b"abc", "3 bytes"), (Loose(), "a loose thing"), (float("nan"), "NaN"),
        (cyclic, "[[...]]"), ("\ud800", "�"),
        (pd.DataFrame({"a": [1], "b|c": ["x\ny"]}), "| a | b\\|c |\n| --- | --- |\n| 1 | x y |"),
        (pd.Series([1, 2], index=["p", "q"], name="n"), "|  | n |\n| --- | --- |\n| p | 1 |"),
        (pd.DataFrame({"a": range(1000)}), "[the first 30 of 1,000 rows, 1 of 1 columns]"),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_results_in_words(value: Any, words: str) -> None:
    text = to_text(value)
    assert words in text
    text.encode()


def call(**changes: Any) -> ToolCall:
    return ToolCall(id="a", name="t", arguments={}, **changes)


def test_what_the_model_is_told() -> None:
    assert for_model(call(status="done", result="3")) == "3"
    assert for_model(call(status="failed", error="ValueError: x")) == "Error: ValueError: x"
    assert for_model(call(status="declined")).startswith("The user declined this call")
    assert "why not" in for_model(call(status="declined", error="why not"))
    for status in ("waiting", "running"):
        assert for_model(call(status=status)) == "This call was not run."

    long = call(status="done", result="a" * 5_000 + "b" * 5_000)
    told = for_model(long)
    assert is_cut(long)
    assert len(told) < MODEL_LIMIT + 100
    assert "2,000 of 10,000 characters left out here" in told
    assert told.startswith("aaa")
    assert told.endswith("bbb")
    huge = to_text("x" * (MAX_KEPT + 5))
    assert len(huge) < MAX_KEPT + 100
    assert huge.endswith("[cut here: the result has 1,000,005 characters]")
