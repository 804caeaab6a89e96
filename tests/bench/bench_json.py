"""Replies that follow a JSON schema beside free ones, with the same tokens in both.

    python tests/bench/bench_json.py [--rounds 3] [--quick] [--threads 2 | --busy]

The model writes a certain JSON text by itself (`models.py`), so with the schema and without it the
same tokens come, and what the schema costs is all the difference there is. A second model first
wants something else at some 5% of the places, which the schema has to refuse. The replies are
checked: each has to be that text.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import Setup  # noqa: E402 - the path comes first
from bench.harness import Runner, Turns, options, read_options  # noqa: E402
from bench.models import SCHEMA, bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

NUM_OWN, N_SLOTS, REFUSED = 64, 8, 0.05
GOAL = 0.95
FREE, WITH_SCHEMA, SOME_REFUSED = "free", "with the schema", "with the schema, some refused"


def compare(
    shape: str, chosen: argparse.Namespace, results: Results, *, num_rows: int, rounds: int
) -> None:
    models = {FREE: bench_model(shape), WITH_SCHEMA: bench_model(shape)}
    if shape != "qwen2.5-0.5b":  # its file is large, and one shape is enough for this
        models[SOME_REFUSED] = bench_model(shape, refused=REFUSED)
    model = models[FREE]
    print(model.description)
    maker = RowMaker(model.path)
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Runner:
            setup = Setup(
                path=models[name].path,
                n_slots=N_SLOTS,
                n_row=NUM_OWN + len(model.wanted) + 1,
                n_threads=chosen.threads,
            )
            schema = None if name == FREE else SCHEMA
            return stack.enter_context(Runner(name, "engine", setup, schema=schema))

        turns = Turns([start(name) for name in models], busy=chosen.busy)
        turns.take(
            rounds,
            lambda number: maker.json_work(num_rows, model, num_own=NUM_OWN, seed=number),
        )
    expected = maker.text(model.wanted)
    for name in models:
        for outcome in turns.outcomes(name):
            if set(outcome.texts) != {expected}:
                wrong = next(text for text in outcome.texts if text != expected)
                raise RuntimeError(f"{name}: a reply is {wrong!r} and not {expected!r}")
    for name in [name for name in models if name != FREE]:
        done = turns.outcomes(name)
        refused = sum(one.num_refused for one in done) / sum(one.num_new for one in done)
        ratio = turns.ratio(name, FREE)
        results.add(
            Finding(
                what=f"{shape}: replies after a JSON schema, {refused:.1%} of tokens refused first",
                ours=f"{turns.rows_per_s(name):.2f} rows/s",
                peer=f"our engine, free: {turns.rows_per_s(FREE):.2f}",
                reading=f"{ratio:.1%} of the speed of free replies",
                ratio=ratio,
                goal=GOAL if name == WITH_SCHEMA else None,
            )
        )


def main() -> int:
    chosen = read_options(options(__doc__, rounds=3))
    conditions = f"{NUM_OWN} prompt + some 64 new tokens a row, {N_SLOTS} slots, greedy," + (
        f" {chosen.threads} threads" + (", by CPU time" if chosen.busy else "")
    )
    results = Results("json", chosen, conditions)
    if chosen.tiny:
        compare("tiny", chosen, results, num_rows=8, rounds=1)
    elif chosen.quick:
        compare("smollm2-135m", chosen, results, num_rows=8, rounds=1)
    else:
        compare("smollm2-135m", chosen, results, num_rows=16, rounds=chosen.rounds)
        compare("qwen2.5-0.5b", chosen, results, num_rows=8, rounds=2)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
