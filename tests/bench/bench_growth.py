"""How our engine's rows per second grow with sequences side by side, and with a shared beginning.

    python tests/bench/bench_growth.py [--rounds 2] [--quick] [--threads 2 | --busy]

Also: which part of the engine's time is spent inside `llama_decode` with 8 and more sequences. All
run in turn, each engine in a process of its own, on rows that it has not seen before.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import Setup  # noqa: E402 - the path comes first
from bench.harness import Runner, Turns, options, read_options  # noqa: E402
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

NUM_OWN, NUM_NEW, N_SLOTS = 64, 48, 8
# Sequences side by side, and how many rows tell how fast they are.
SEQUENCES = {1: 6, 2: 8, 4: 16, 8: 32, 16: 32, 32: 32}
SHARED = (0, 64, 256, 1024)
GOAL_SHARE = 0.97


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"


class Growth:
    """One model, and the results its figures go to."""

    def __init__(self, shape: str, chosen: argparse.Namespace, results: Results) -> None:
        self._model = bench_model(shape)
        self._shape = shape
        self._maker = RowMaker(self._model.path)
        self._chosen = chosen
        self._results = results
        print(self._model.description)

    def sequences(self, counts: dict[int, int]) -> None:
        """Compute rows with so many sequences side by side, and so many rows for each."""
        print("sequences side by side, nothing shared")
        with contextlib.ExitStack() as stack:
            runners = [
                stack.enter_context(self._runner(_sequences(n), n, 0, num_rows))
                for n, num_rows in counts.items()
            ]
            turns = self._measure(runners, max(counts.values()), 0)
        for n in counts:
            name, first = _sequences(n), _sequences(min(counts))
            ratio, share = turns.ratio(name, first), turns.share_in_decode(name)
            self._results.add(
                Finding(
                    what=f"{self._shape}: {name} side by side",
                    ours=f"{turns.rows_per_s(name):.2f} rows/s",
                    peer="" if name == first else f"{first}: {turns.rows_per_s(first):.2f}",
                    reading="" if name == first else f"{ratio:.2f} times as fast as {first}",
                    ratio=ratio,
                    in_readme=len(counts) > 1,
                )
            )
            self._results.add(
                Finding(
                    what=f"{self._shape}: time inside llama_decode, {name}",
                    ours=f"{share:.1%}",
                    reading=f"{share:.1%}",
                    ratio=share,
                    goal=GOAL_SHARE if n >= N_SLOTS else None,
                    in_readme=n >= N_SLOTS,
                )
            )

    def shared(self, lengths: tuple[int, ...], num_rows: int) -> None:
        """Compute rows that have so many tokens in common, with `N_SLOTS` sequences."""
        print(f"shared prompt tokens, {N_SLOTS} sequences")
        speeds = {}
        for length in lengths:
            name = f"{length} shared"
            with self._runner(name, N_SLOTS, length, num_rows) as runner:
                turns = self._measure([runner], num_rows, length)
            speeds[length] = turns.rows_per_s(name)
            ratio = speeds[length] / speeds[lengths[0]]
            self._results.add(
                Finding(
                    what=f"{self._shape}: {length} shared prompt tokens, {N_SLOTS} sequences",
                    ours=f"{speeds[length]:.2f} rows/s",
                    reading=f"{ratio:.2f} of the speed with none" if length else "",
                    ratio=ratio,
                )
            )

    def _runner(self, name: str, n_slots: int, num_shared: int, num_rows: int) -> Runner:
        setup = Setup(
            path=self._model.path,
            n_slots=n_slots,
            n_row=num_shared + NUM_OWN + NUM_NEW,
            n_shared=num_shared,
            n_threads=self._chosen.threads,
        )
        return Runner(name, "engine", setup, num_rows=num_rows)

    def _measure(self, runners: list[Runner], num_rows: int, num_shared: int) -> Turns:
        turns = Turns(runners, busy=self._chosen.busy)
        turns.take(
            self._chosen.rounds,
            lambda number: self._maker.work(
                num_rows, num_own=NUM_OWN, num_new=NUM_NEW, num_shared=num_shared, seed=number
            ),
        )
        return turns


def main() -> int:
    chosen = read_options(options(__doc__, rounds=2))
    conditions = (
        f"{NUM_OWN} prompt + {NUM_NEW} new tokens a row, greedy, {chosen.threads} threads"
        + (", by CPU time" if chosen.busy else "")
    )
    results = Results("growth", chosen, conditions)
    growth = Growth("tiny" if chosen.tiny else "smollm2-135m", chosen, results)
    if chosen.tiny:
        growth.sequences({1: 1, 8: 8})
        growth.shared((64,), 8)
    elif chosen.quick:
        growth.sequences({1: 2, 8: 16})
        growth.shared((0, 256), 16)
    else:
        growth.sequences(SEQUENCES)
        growth.shared(SHARED, 32)
        chosen.rounds = 1
        Growth("qwen2.5-0.5b", chosen, results).sequences({8: 16})
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
