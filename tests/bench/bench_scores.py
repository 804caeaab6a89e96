"""Scoring a text beside bare `llama_decode`, and what noting the tokens' times costs a reply.

    python tests/bench/bench_scores.py [--rounds 5] [--quick] [--threads 2 | --busy]

The text is random tokens in windows of 512, of which the second halves are scored, as llama.cpp's
perplexity tool does it. The peer is `llama_decode` on the same model in a context of the same
shape, with room for the same logits, which it computes and does not look at: what is beyond it is
our loop and the log probabilities. The other figure is one token's share of noting when it came,
and of the quantiles at the end, of the time that a token takes to be written.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from array import array
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import llama_cpp as lib  # noqa: E402 - the path comes first
from bench.harness import options, read_options  # noqa: E402
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.vocabulary import silence  # noqa: E402

from gguf_widgets.core.engine.engine import Engine  # noqa: E402
from gguf_widgets.core.engine.open import open_backend  # noqa: E402
from gguf_widgets.core.engine.score_windows import plan_windows  # noqa: E402
from gguf_widgets.core.engine.scoring import ScoreRequest  # noqa: E402
from gguf_widgets.core.engine.token_times import latencies  # noqa: E402
from gguf_widgets.core.types import (  # noqa: E402
    Finished,
    GenerateRequest,
    LoadSettings,
    SamplingSettings,
)

WINDOW, NUM_WINDOWS, NUM_REPLY = 512, 4, 64
GOAL_SCORE, GOAL_NOTE = 0.85, 0.001


class Bare:
    """The same windows through `llama_decode` alone."""

    def __init__(self, model: Any, n_outputs: int, threads: int) -> None:
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = WINDOW
        params.n_threads = params.n_threads_batch = threads
        params.n_outputs_max = n_outputs
        self._n_outputs = n_outputs
        self._context = lib.llama_init_from_model(model, params)
        self._batch = lib.llama_batch_init(WINDOW, 0, 1)

    def run(self, tokens: list[int]) -> None:
        memory = lib.llama_get_memory(self._context)
        for start in range(0, len(tokens), WINDOW):
            lib.llama_memory_clear(memory, False)
            place = 0
            while place < WINDOW - 1:
                silent = max(0, WINDOW // 2 - place)
                count = min(WINDOW - 1 - place, silent + self._n_outputs)
                for row in range(count):
                    self._batch.token[row] = tokens[start + place + row]
                    self._batch.pos[row] = place + row
                    self._batch.n_seq_id[row], self._batch.seq_id[row][0] = 1, 0
                    self._batch.logits[row] = row >= silent
                self._batch.n_tokens = count
                if lib.llama_decode(self._context, self._batch) != 0:
                    raise RuntimeError("llama_decode failed")
                place += count

    def close(self) -> None:
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._context)


def score(engine: Engine, tokens: list[int]) -> None:
    """Score the windows; the reader takes everything at once."""
    answers: list[Any] = []
    windows = plan_windows(len(tokens), WINDOW, halves=True)
    engine.scoring.add(ScoreRequest("s", "bench", tokens, windows, answers.append, credit=10**6))
    while engine.has_work:
        engine.step()
    if not answers or isinstance(answers[-1], Exception):
        raise RuntimeError(f"it was not scored: {answers[-1:]}")


def token_s(engine: Engine, tokens: list[int]) -> float:
    """Return how long a reply's token takes here."""
    sampling = SamplingSettings(temperature=0, max_tokens=NUM_REPLY)
    engine.add_request(
        GenerateRequest(
            request_id="r", client_id="bench", prompt_tokens=tokens[:32], sampling=sampling
        )
    )
    while True:
        for event in engine.step():
            if isinstance(event, Finished):
                return event.reply.timings.decode_s / max(1, NUM_REPLY - 1)


def note_s() -> float:
    """Return what noting one token's time costs, its share of the quantiles included."""
    times: array[float] = array("d")
    began = perf_counter()
    for _ in range(1000):
        times.append(perf_counter())
    latencies(times)
    return (perf_counter() - began) / 1000


def main() -> int:
    chosen = read_options(options(__doc__, rounds=5))
    silence()
    results = Results("scores", chosen)
    made = bench_model("tiny" if chosen.tiny else "smollm2-135m")
    print(made.description)
    measure(chosen, Path(made.path), results)
    return results.finish()


def measure(chosen: argparse.Namespace, path: Path, results: Results) -> None:
    load = LoadSettings(n_ctx=1024, n_threads=chosen.threads, flash_attn=False)
    engine = Engine(open_backend("llama.cpp", path, load))
    scorer = engine.backend.scorer
    if scorer is None:
        raise RuntimeError("this model cannot be scored")
    rng = random.Random(1)  # noqa: S311 - it keeps no secret
    tokens = [rng.randrange(scorer.n_vocab) for _ in range(WINDOW * NUM_WINDOWS)]
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    bare = Bare(model, scorer.n_outputs, chosen.threads)
    clock = process_time if chosen.busy else perf_counter
    ratios, speeds = [], []
    for number in range(chosen.rounds + 1):
        seconds = []
        for work in (lambda: bare.run(tokens), lambda: score(engine, tokens)):
            began = clock()
            work()
            seconds.append(clock() - began)
        if number or chosen.rounds == 1:  # the first round warms up
            ratios.append(seconds[0] / seconds[1])
            speeds.append([len(tokens) / one for one in seconds])
    peer, ours = (statistics.median(column[place] for column in speeds) for place in (0, 1))
    ratio = statistics.median(ratios)
    results.add(
        Finding(
            what=f"a text scored in windows of {WINDOW} tokens",
            ours=f"{ours:.0f} tokens/s",
            peer=f"bare `llama_decode` {peer:.0f}",
            reading=f"{100 * ratio:.0f}% of its speed",
            ratio=ratio,
            goal=GOAL_SCORE,
        )
    )
    written, noted = token_s(engine, tokens), note_s()
    results.add(
        Finding(
            what="noting when each token of a reply came",
            ours=f"{1e6 * noted:.2f} µs a token",
            peer=f"writing it {1e3 * written:.2f} ms",
            reading=f"{100 * noted / written:.4f}% of its time",
            ratio=noted / written,
            goal=None if chosen.tiny else GOAL_NOTE,
            less_is_better=True,
        )
    )
    bare.close()
    lib.llama_model_free(model)
    engine.close()


if __name__ == "__main__":
    sys.exit(main())
