"""Prompt lookup: one stream with guesses beside one without, where they are right and where not.

    python tests/bench/bench_lookup.py [--rounds 5] [--quick] [--threads 2 | --busy]

The model writes a certain JSON text by itself (`models.py`). In the one case that text stands in
the prompt already, as in a correction or a summary that quotes, so nearly each guess is right; in
the other the prompt holds its tokens in another order, so that what is found is wrong. What is
guessed, and when, is the engine's own decision; the peer is the same engine without guesses.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path
from time import perf_counter, process_time

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.models import BenchModel, bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.vocabulary import silence  # noqa: E402

from gguf_widgets.core.engine.engine import Engine  # noqa: E402
from gguf_widgets.core.engine.open import open_backend  # noqa: E402
from gguf_widgets.core.types import (  # noqa: E402
    Finished,
    GenerateRequest,
    LoadSettings,
    SamplingSettings,
)

N_DRAFT, NUM_REPEATS = 8, 4
# Where guesses are wrong they must not cost more than this.
GOAL_WRONG = 0.95


def prompt_of(model: BenchModel, *, helpful: bool, seed: int) -> list[int]:
    """Return a prompt after which the model writes its text: one that holds it, or misleads."""
    rng = random.Random(seed)  # noqa: S311 - it keeps no secret
    parts = []
    for _ in range(NUM_REPEATS):
        tokens = list(model.wanted)
        if not helpful:
            rng.shuffle(tokens)
        parts += tokens
    return [*parts, model.start]


def seconds(engine: Engine, prompt: list[int], count: int, *, busy: bool) -> float:
    """Return how long the reply took from its first token on."""
    sampling = SamplingSettings(temperature=0, max_tokens=count)
    engine.add_request(
        GenerateRequest(request_id="x", client_id="bench", prompt_tokens=prompt, sampling=sampling)
    )
    clock = process_time if busy else perf_counter
    start, reply = 0.0, None
    while engine.has_work:
        for event in engine.step():
            if not start and not hasattr(event, "num_done"):
                start = clock()
            if isinstance(event, Finished):
                reply = event.reply
    if reply is None or reply.usage.num_completion_tokens != count:
        raise RuntimeError(f"the reply is not the text: {reply}")
    return clock() - start


def measure(chosen: argparse.Namespace, model: BenchModel, results: Results) -> None:
    def make(n_draft: int) -> Engine:
        load = LoadSettings(n_ctx=2048, n_threads=chosen.threads, n_draft=n_draft)
        return Engine(open_backend("llama.cpp", Path(model.path), load))

    count = len(model.wanted)
    print(model.description)
    for helpful, what in ((True, "its text stands in the prompt"), (False, "it does not")):
        plain, guessing = make(0), make(N_DRAFT)
        ratios, speeds = [], []
        for number in range(chosen.rounds + 1):
            prompt = prompt_of(model, helpful=helpful, seed=number)
            times = [
                seconds(engine, prompt, count, busy=chosen.busy) for engine in (plain, guessing)
            ]
            if number:  # the first round shows the engine what a step costs here
                ratios.append(times[0] / times[1])
                speeds.append([(count - 1) / one for one in times])
        ours, peer = (statistics.median(column[place] for column in speeds) for place in (1, 0))
        ratio = statistics.median(ratios)
        right = guessing._drafts.num_right
        print(f"  {what}: {right} of {count * (chosen.rounds + 1)} tokens were guessed")
        results.add(
            Finding(
                what=f"one stream with prompt lookup (`n_draft={N_DRAFT}`): {what}",
                ours=f"{ours:.1f} tokens/s",
                peer=f"without it {peer:.1f}",
                reading=f"{ratio:.2f} times as fast",
                ratio=ratio,
                goal=1.0 if helpful else GOAL_WRONG,
                strict=helpful,
            )
        )
        plain.close()
        guessing.close()


def main() -> int:
    chosen = read_options(options(__doc__, rounds=5))
    silence()
    results = Results("lookup", chosen)
    measure(chosen, bench_model("tiny" if chosen.tiny else "smollm2-135m"), results)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
