"""How far a measurement is, and how long it still takes.

Promises: the time left comes from what was measured so far (seconds for a prompt token and for a
written one, of this model or, by the size of its file, of those before it), and is None before
anything was; the share that is done never goes back. Leaves to others: showing it (`show`),
measuring (`work`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.format import format_duration, plain_text

__all__ = ["Estimate", "Progress"]

_WARM_TOKENS: Final = 16
_SETTLED_S: Final = 0.5
# Before anything is measured: a step of writing takes so many times as long as a prompt's token.
_STEP: Final = 10.0
_FIRST_GUESS_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes
    ----------
    status : str
        "running", "stopping", "done", "stopped" or "failed" (of no model anything was measured).
    model, test : str
        What it is at; "" for the test while the model is loaded.
    phase : str
        What is being done, for the screen: "loading", "warming up", "2 of 5".
    fraction : float
        0 to 1.
    elapsed_s : float
    left_s : float or None
        None while that cannot be told.
    num_done, num_total : int
        Tests, of all models.
    num_failed : int
        Models and tests that could not be measured.
    """

    status: str
    model: str
    test: str
    phase: str
    fraction: float
    elapsed_s: float
    left_s: float | None
    num_done: int
    num_total: int
    num_failed: int

    def __str__(self) -> str:
        tests = "1 test" if self.num_total == 1 else f"{self.num_total} tests"
        failed = f", {self.num_failed} could not be measured" if self.num_failed else ""
        if self.status in ("done", "stopped", "failed"):
            how = {"done": "finished", "stopped": "stopped", "failed": "failed"}[self.status]
            took = format_duration(self.elapsed_s)
            return f"{self.num_done} of {tests}, {how} after {took}{failed}"
        what = ", ".join(
            part for part in (plain_text(self.model, 40), self.test, self.phase) if part
        )
        left = "" if self.left_s is None else f", about {format_duration(self.left_s)} left"
        if self.status == "stopping":
            left = ", stopping"
        return f"{what} ({self.num_done} of {tests} done{failed}){left}"


class Estimate:
    """Knows what was done and what is left, in seconds as far as those are known.

    Parameters
    ----------
    tests : sequence of (model's number, BenchTest)
        In the order in which they are carried out.
    repetitions : int
    warmup : bool
    """

    def __init__(
        self, tests: Sequence[tuple[int, BenchTest]], repetitions: int, *, warmup: bool
    ) -> None:
        self._lock = threading.Lock()
        self._repetitions, self._warmup = repetitions, warmup
        self._left: dict[int, list[BenchTest]] = {}
        for number, test in tests:
            self._left.setdefault(number, []).append(test)
        self._sizes: dict[int, int] = {}
        # Seconds for a prompt token and for a written one, by model.
        self._speeds: dict[int, tuple[float | None, float | None]] = {}
        self._load_s: list[float] = []
        self._began = time.monotonic()
        self._step: tuple[int, BenchTest, bool] | None = None
        self._step_began = 0.0
        self._under_way = False
        self._steps_left = 0  # of the test that it is at: repetitions, a warm-up among them
        self._most = 0.0

    def size(self, number: int, num_bytes: int) -> None:
        """Note how large a model's file is."""
        with self._lock:
            self._sizes[number] = num_bytes

    def loaded(self, seconds: float) -> None:
        """Note how long a model took to load."""
        with self._lock:
            self._load_s.append(seconds)

    def begin(self, number: int, test: BenchTest, *, warm: bool) -> None:
        """Note that a repetition begins."""
        with self._lock:
            if self._step is None or self._step[:2] != (number, test):
                self._steps_left = self._repetitions + int(self._warmup)
                if test in self._left.get(number, []):
                    self._left[number].remove(test)
            self._step, self._step_began = (number, test, warm), time.monotonic()
            self._under_way = True

    def end(self, *, clean: bool) -> None:
        """Note that it ended; it is taken as a measure of speed if it ended well."""
        with self._lock:
            if self._step is None:
                return
            number, test, warm = self._step
            seconds = time.monotonic() - self._step_began
            self._steps_left -= 1
            self._under_way = False
            if clean:
                self._learn(number, test, seconds, warm=warm)

    def done(self, number: int, test: BenchTest | None = None) -> None:
        """Note that a test has ended, in whatever way; without one, all of the model's."""
        with self._lock:
            left = self._left.get(number, [])
            if test is None:
                left.clear()
            elif test in left:
                left.remove(test)
            if self._step is not None and (test is None or self._step[:2] == (number, test)):
                self._step, self._steps_left = None, 0

    def look(self) -> tuple[float, float, float | None]:
        """Return the share that is done, the seconds since the beginning, and those left."""
        with self._lock:
            elapsed = time.monotonic() - self._began
            left = self._seconds_left()
            fraction = elapsed / (elapsed + left) if elapsed + left > 0 else 1.0
            known = bool(self._speeds) and elapsed >= _SETTLED_S
            self._most = max(self._most, fraction if known else 0.0)
            return self._most, elapsed, left if known else None

    # -- inside; the lock is held -----------------------------------------------------------------

    def _learn(self, number: int, test: BenchTest, seconds: float, *, warm: bool) -> None:
        prompt, written = _amounts(test, warm=warm)
        per_prompt, per_written = self._speeds.get(number, (None, None))
        if not written:
            per_prompt = seconds / prompt
        elif per_prompt is not None:
            # What its prompt takes is known from a test before.
            per_written = max(seconds - prompt * per_prompt, 0.1 * seconds) / written
        else:
            per_written = seconds / (written + prompt / _STEP)
        self._speeds[number] = (per_prompt, per_written)

    def _speed(self, number: int) -> tuple[float, float]:
        """Return seconds for a prompt token and for a written one, guessed where need be."""
        prompt, written = self._speeds.get(number, (None, None))
        if prompt is not None and written is not None:
            return prompt, written
        others = [one for one in self._speeds if one != number]
        of_other = self._speeds[others[-1]] if others else (None, None)
        other_prompt = of_other[0] if of_other[0] is not None else _FIRST_GUESS_S
        other_written = of_other[1] if of_other[1] is not None else other_prompt * _STEP
        if prompt is not None:
            return prompt, prompt * other_written / other_prompt
        if written is not None:
            return written * other_prompt / other_written, written
        # By the size of the files: both read every weight.
        mine = self._sizes.get(number)
        theirs = self._sizes.get(others[-1]) if others else None
        scale = mine / theirs if mine and theirs else 1.0
        return other_prompt * scale, other_written * scale

    def _cost(self, number: int, test: BenchTest, *, warm: bool) -> float:
        per_prompt, per_written = self._speed(number)
        prompt, written = _amounts(test, warm=warm)
        return prompt * per_prompt + written * per_written

    def _seconds_left(self) -> float:
        seconds = 0.0
        if self._step is not None and self._steps_left > 0:
            number, test, warm = self._step
            steps = self._steps_left
            if self._under_way:
                now = self._cost(number, test, warm=warm)
                seconds += max(0.0, now - (time.monotonic() - self._step_began))
                steps -= 1
            seconds += steps * self._cost(number, test, warm=False)
        for number, tests in self._left.items():
            for test in tests:
                seconds += self._repetitions * self._cost(number, test, warm=False)
                if self._warmup:
                    seconds += self._cost(number, test, warm=True)
            if tests and number not in self._speeds and self._load_s:
                seconds += self._load_s[-1]
        return seconds


def _amounts(test: BenchTest, *, warm: bool) -> tuple[int, int]:
    """Return how many tokens are computed as prompts, and in how many steps it is written."""
    n_gen = min(test.n_gen, _WARM_TOKENS) if warm else test.n_gen
    return test.n_seq * (test.n_depth + test.n_prompt), n_gen
