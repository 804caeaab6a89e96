"""Rows of a table: our engine beside xllamacpp's server and `llama_cpp.Llama` row by row.

    python tests/bench/bench_batch.py [--rounds 2] [--quick] [--threads 2 | --busy]

Each is a process of its own with the same model, threads and prompts, writes the same number of
tokens greedily, and has its turn in each round with rows that nobody has seen before. First the
rows have nothing in common, then their first 256 tokens, as rows of a template have. The peers'
own speeds for one row after another tell how their builds of llama.cpp compare.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import Setup  # noqa: E402 - the path comes first
from bench.harness import Runner, Turns, installed, options, read_options  # noqa: E402
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

NUM_OWN, NUM_NEW, NUM_SHARED = 64, 48, 256
PEER = "xllamacpp"
CHOSEN = 16  # how many sequences are chosen for a processor, where nobody says
# More than 1 with nothing shared; with a shared beginning, by slots.
GOAL_LLAMA, GOALS_SHARED = 1.7, {8: 1.8, 32: 3.0}


class Entry(NamedTuple):
    """One contestant; who takes its rows one by one is given only some of them."""

    name: str
    kind: str
    n_slots: int
    num_rows: int | None = None
    kv_unified: bool = False


class Comparison(NamedTuple):
    """How many times as fast one is as the other is to be."""

    name: str
    other: str
    goal: float | None
    in_readme: bool = True


class Table:
    """One model's rows, and the results they go to."""

    def __init__(self, shape: str, chosen: argparse.Namespace, results: Results) -> None:
        self._model = bench_model(shape)
        self._shape = shape
        print(self._model.description)
        self._maker = RowMaker(self._model.path)
        self._chosen = chosen
        self._results = results
        self._with_peer = installed(PEER)

    def compare(
        self, num_rows: int, num_shared: int, slots: list[int], *, num_alone: int, rounds: int
    ) -> None:
        """Let all compute rows that have `num_shared` tokens in common."""
        what = f"{num_shared} shared prompt tokens" if num_shared else "nothing shared"
        print(f"{what}, {num_rows} rows")
        entries, comparisons = _programme(slots, num_shared > 0, num_alone)
        with contextlib.ExitStack() as stack:
            runners = [
                stack.enter_context(Runner(one.name, one.kind, setup, num_rows=one.num_rows))
                for one, setup in ((one, self._setup(one, num_shared)) for one in entries)
                if one.kind != PEER or self._with_peer
            ]
            turns = Turns(runners, busy=self._chosen.busy)
            turns.take(
                rounds,
                lambda number: self._maker.work(
                    num_rows, num_own=NUM_OWN, num_new=NUM_NEW, num_shared=num_shared, seed=number
                ),
            )
        for comparison in comparisons:
            self._results.add(self._finding(turns, comparison, f"{self._shape}, {what}"))

    def _setup(self, entry: Entry, num_shared: int) -> Setup:
        return Setup(
            path=self._model.path,
            n_slots=entry.n_slots,
            n_row=num_shared + NUM_OWN + NUM_NEW,
            n_shared=num_shared,
            n_threads=self._chosen.threads,
            kv_unified=entry.kv_unified,
        )

    def _finding(self, turns: Turns, comparison: Comparison, what: str) -> Finding:
        name, other, goal, in_readme = comparison
        if not (turns.has(name) and turns.has(other)):
            missing = f"{PEER} is not installed"
            return Finding(what=f"{what}: {name}", ours="", peer=PEER, reading=missing, goal=goal)
        ratio = turns.ratio(name, other)
        return Finding(
            what=f"{what}: {name}",
            ours=f"{turns.rows_per_s(name):.2f} rows/s",
            peer=f"{other}: {turns.rows_per_s(other):.2f}",
            reading=f"{ratio:.2f} times as fast as {other}",
            ratio=ratio,
            goal=goal,
            strict=goal == 1.0,
            in_readme=in_readme,
        )


def _programme(
    slots: list[int], with_shared: bool, num_alone: int
) -> tuple[list[Entry], list[Comparison]]:
    """Return who takes part, and who is compared with whom."""
    count = CHOSEN if CHOSEN in slots else slots[0]
    worker = Entry(f"through gguf_widgets.load, {count} slots", "worker", count)
    llama = Entry("llama_cpp.Llama, one by one", "llama", 1, num_alone)
    ours = {count: Entry(f"our engine, {count} slots", "engine", count) for count in slots}
    theirs = {count: Entry(f"{PEER}, {count} slots", PEER, count) for count in slots}
    most = slots[-1]
    unified = Entry(f"our engine, one cache for all {most} slots", "engine", most, kv_unified=True)
    entries = [*ours.values(), unified, worker, *theirs.values(), llama]
    chosen = ours[count].name
    comparisons = [
        Comparison(
            ours[count].name, theirs[count].name, GOALS_SHARED.get(count) if with_shared else 1.0
        )
        for count in slots
    ]
    comparisons.append(Comparison(unified.name, ours[most].name, None))
    comparisons.append(Comparison(chosen, llama.name, None if with_shared else GOAL_LLAMA))
    comparisons.append(Comparison(worker.name, chosen, None))
    if not with_shared:
        alone = Entry(f"{PEER}, one by one", PEER, 1, num_alone)
        entries.append(alone)
        comparisons.append(Comparison(alone.name, llama.name, None, in_readme=False))
    return entries, comparisons


def main() -> int:
    chosen = read_options(options(__doc__, rounds=2))
    conditions = (
        f"{NUM_OWN} prompt + {NUM_NEW} new tokens a row, greedy, {chosen.threads} threads"
        + (", by CPU time" if chosen.busy else "")
    )
    results = Results("batch", chosen, conditions)
    if chosen.tiny:
        Table("tiny", chosen, results).compare(4, 0, [2], num_alone=1, rounds=1)
        return results.finish()
    slots, num_rows, num_alone = ([8], 16, 4) if chosen.quick else ([8, 16, 32], 32, 12)
    table = Table("smollm2-135m", chosen, results)
    for num_shared in (0, NUM_SHARED):
        table.compare(num_rows, num_shared, slots, num_alone=num_alone, rounds=chosen.rounds)
    if not chosen.quick:
        Table("qwen2.5-0.5b", chosen, results).compare(16, 0, [8, 16], num_alone=3, rounds=1)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
