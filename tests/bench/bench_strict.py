"""What strict mode (`reproducible=True`) costs: rows computed by themselves beside rows together.

    python tests/bench/bench_strict.py [--rounds 3] [--quick] [--threads 2 | --busy]

The same engine computes the same rows twice: side by side, as a batch run does, and each by itself
in an empty cache, as it does in strict mode. Once the rows have nothing in common, and once they
begin with the same 256 tokens, which strict mode computes for each row again. There is no goal: it
is the price of a promise, and the README states it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from time import perf_counter, process_time

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import Work  # noqa: E402 - the path comes first
from bench.harness import options, read_options  # noqa: E402
from bench.models import BenchModel, bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

from gguf_widgets.core.engine.engine import Engine  # noqa: E402
from gguf_widgets.core.engine.open import open_backend  # noqa: E402
from gguf_widgets.core.types import (  # noqa: E402
    Finished,
    GenerateRequest,
    LoadSettings,
    Priority,
    SamplingSettings,
)

NUM_OWN, NUM_NEW, NUM_SHARED, SLOTS = 64, 48, 256, 8


def rows_per_s(engine: Engine, work: Work, *, strict: bool, busy: bool) -> float:
    """Return how many rows a second come out."""
    sampling = SamplingSettings(
        temperature=0, max_tokens=work.num_new, ignore_eos=True, reproducible=strict
    )
    clock = process_time if busy else perf_counter
    begun = clock()
    for number, prompt in enumerate(work.prompts):
        engine.add_request(
            GenerateRequest(
                request_id=f"{number}",
                client_id="bench",
                prompt_tokens=prompt,
                sampling=sampling,
                priority=Priority.BATCH,
            )
        )
    done = 0
    while engine.has_work:
        done += sum(isinstance(event, Finished) for event in engine.step())
    if done != len(work.prompts):
        raise RuntimeError(f"{done} of {len(work.prompts)} rows came out")
    return done / (clock() - begun)


def measure(chosen: argparse.Namespace, model: BenchModel, results: Results) -> None:
    num_rows = 4 if chosen.tiny else 8 if chosen.quick else 24
    maker = RowMaker(model.path)
    length = NUM_SHARED + NUM_OWN + NUM_NEW + 16
    load = LoadSettings(n_ctx=length * SLOTS, n_seq_max=SLOTS, n_threads=chosen.threads)
    engine = Engine(open_backend("llama.cpp", Path(model.path), load))
    print(model.description)
    for num_shared, what in ((0, "nothing shared"), (NUM_SHARED, f"{NUM_SHARED} shared tokens")):
        ratios, speeds = [], []
        for number in range(chosen.rounds):
            work = maker.work(
                num_rows, num_own=NUM_OWN, num_new=NUM_NEW, num_shared=num_shared, seed=number
            )
            pair = [
                rows_per_s(engine, work, strict=strict, busy=chosen.busy)
                for strict in (True, False)
            ]
            speeds.append(pair)
            ratios.append(pair[0] / pair[1])
        alone, together = (statistics.median(pair[place] for pair in speeds) for place in (0, 1))
        ratio = statistics.median(ratios)
        results.add(
            Finding(
                what=f"strict mode, rows with {what}",
                ours=f"each by itself {alone:.2f} rows/s",
                peer=f"{SLOTS} side by side: {together:.2f}",
                reading=f"{1 / ratio:.1f} times as long",
                ratio=ratio,
            )
        )
    engine.close()


def main() -> int:
    chosen = read_options(options(__doc__, rounds=3))
    conditions = (
        f"{NUM_OWN} own prompt + {NUM_NEW} new tokens a row, greedy, {chosen.threads} threads"
        + (", by CPU time" if chosen.busy else "")
    )
    results = Results("strict", chosen, conditions)
    measure(chosen, bench_model("tiny" if chosen.tiny else "smollm2-135m"), results)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
