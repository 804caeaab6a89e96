"""Contestants in processes of their own that take turns, and the options all benchmarks have.

Promises: only one of them computes at a time; a ratio compares what ran next to each other, in the
same round, so that other load on the machine meets both, and the median of the ratios counts; a
peer that is not installed is named, with the line that installs it. Leaves to others: who they are
(`contestants.py`), what they compute (`rows.py`), which goals there are (`results.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from bench.contestants import Outcome, Setup, Work
from bench.results import RESULTS

__all__ = ["Runner", "Turns", "installed", "options", "read_options"]


def options(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser for what every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each one")
    parser.add_argument("--threads", type=int, help="compute threads (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: rough figures")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: only a trial")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="for a busy machine: one thread, and the processes' own CPU time instead of the clock",
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where figures are written"
    )
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read them, with what follows from them."""
    chosen = parser.parse_args()
    if chosen.busy:
        chosen.threads = 1
    elif chosen.threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        chosen.threads = len(affinity(0)) if affinity else os.cpu_count() or 1
    if chosen.quick or chosen.tiny:
        chosen.rounds = 1
    return chosen


def installed(package: str) -> bool:
    """Say whether a peer can be compared with; if not, print how to get it."""
    if importlib.util.find_spec(package) is not None:
        return True
    print(f"{package} is not installed, so it is not compared: pip install {package}")
    return False


class Runner:
    """A contestant's process.

    Parameters
    ----------
    name : str
        For the tables.
    kind : str
        A key of `contestants.KINDS`.
    setup : Setup
    num_rows : int, optional
        It is given only so many of the rows: enough for one that takes them one by one.
    changes
        Of fields of the work it is given.
    """

    def __init__(
        self, name: str, kind: str, setup: Setup, *, num_rows: int | None = None, **changes: Any
    ) -> None:
        self.name = name
        self._num_rows = num_rows
        self._changes = changes
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        child = Path(__file__).with_name("child.py")
        self._process = subprocess.Popen(
            [sys.executable, child, kind, msgspec.json.encode(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self._read()  # "ready"
        except BaseException:
            self.close()
            raise

    def run(self, work: Work) -> Outcome:
        """Let it compute; it has to write exactly what was asked, unless a schema says when."""
        work = msgspec.structs.replace(
            work,
            prompts=work.prompts[: self._num_rows],
            texts=work.texts[: self._num_rows],
            **self._changes,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # why it ended is told by what is read
            self._process.stdin.write(msgspec.json.encode(work) + b"\n")
            self._process.stdin.flush()
        outcome = msgspec.json.decode(self._read(), type=Outcome)
        wanted = len(work.prompts) * work.num_new
        # llama_cpp.Llama goes on until the last character is whole.
        if outcome.num_rows != len(work.prompts) or not 1 <= outcome.num_new / wanted <= 1.05:
            raise RuntimeError(
                f"{self.name} wrote {outcome.num_new} tokens in {outcome.num_rows} rows;"
                f" {wanted} in {len(work.prompts)} were asked for"
            )
        return msgspec.structs.replace(outcome, num_rows=outcome.num_new / work.num_new)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace").splitlines()
            raise RuntimeError("\n".join([f"{self.name} ended; its last words:", *said[-15:]]))
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Turns:
    """Several contestants, and what came of their turns.

    Parameters
    ----------
    runners : sequence of Runner
    busy : bool
        Count the processes' CPU time instead of the clock's.
    """

    def __init__(self, runners: Sequence[Runner], *, busy: bool) -> None:
        self._runners = runners
        self._busy = busy
        self._outcomes: dict[str, list[Outcome]] = {runner.name: [] for runner in runners}

    def take(self, num_rounds: int, work: Callable[[int], Work]) -> None:
        """Let each compute the work of each round, after a few unmeasured rows; print the speeds.

        The first is another one in each round.
        """
        for runner in self._runners:
            warm = work(-1)
            runner.run(
                msgspec.structs.replace(warm, prompts=warm.prompts[:2], texts=warm.texts[:2])
            )
        for number in range(num_rounds):
            rows = work(number)
            first = number % len(self._runners)
            for runner in [*self._runners[first:], *self._runners[:first]]:
                self._outcomes[runner.name].append(runner.run(rows))
        for name in self._outcomes:
            print(f"  {name:40} {self.rows_per_s(name):8.2f} rows/s", flush=True)

    def has(self, name: str) -> bool:
        """Say whether somebody of this name took part."""
        return name in self._outcomes

    def outcomes(self, name: str) -> list[Outcome]:
        """Return what came of one's turns."""
        return self._outcomes[name]

    def rows_per_s(self, name: str) -> float:
        """Return the median speed of one."""
        return statistics.median(self._speeds(name))

    def ratio(self, name: str, other: str) -> float:
        """Return how many times as fast one is as another: the median over the rounds."""
        pairs = zip(self._speeds(name), self._speeds(other), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def share_in_decode(self, name: str) -> float:
        """Return which part of one's time was spent inside llama_decode."""
        parts = [
            one.in_decode_cpu_s / one.cpu_s if self._busy else one.in_decode_s / one.seconds
            for one in self._outcomes[name]
        ]
        return statistics.median(parts)

    def _speeds(self, name: str) -> list[float]:
        return [
            one.num_rows / (one.cpu_s if self._busy else one.seconds)
            for one in self._outcomes[name]
        ]
