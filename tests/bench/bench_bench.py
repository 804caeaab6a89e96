"""`gguf_widgets.bench` beside llama-bench's own loop: bare `llama_decode` calls on random tokens.

    python tests/bench/bench_bench.py [--rounds 9] [--threads 2]

Each round lets each of them do the same test once, in turn: ours through the worker and the engine,
as `gguf_widgets.bench` measures it, and the loop in this process, through llama-cpp-python, as
llama-bench writes it (random tokens, nothing sampled, the depth not timed). A round's ratio
compares what ran next to each other, and the median of the ratios counts. What is missing to 1 is
what a reply costs besides `llama_decode` (see `gguf_widgets.core.bench`); there is no goal for it
here, since `bench_stream.py` has one for a stream. On a busy machine the two, being in different
processes, are disturbed unequally: believe only what a quiet one says.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import llama_cpp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.vocabulary import silence  # noqa: E402

from gguf_widgets.core.bench.measure import Repetitions  # noqa: E402
from gguf_widgets.core.bench.plan import BenchTest  # noqa: E402
from gguf_widgets.core.manager import ModelManager  # noqa: E402

N_BATCH = 512


class Loop:
    """llama-bench's loop."""

    def __init__(self, path: str, n_ctx: int, n_threads: int) -> None:
        self._model = llama_cpp.llama_load_model_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = N_BATCH
        params.n_threads = params.n_threads_batch = n_threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._memory = llama_cpp.llama_get_memory(self._context)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._random = random.Random(1)  # noqa: S311
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def once(self, test: BenchTest) -> float:
        """Return tokens per second."""
        llama_cpp.llama_memory_clear(self._memory, True)
        for batch in self._batches(test.n_depth):
            self._decode(batch)
        timed = [*self._batches(test.n_prompt)]
        timed += [batch for _ in range(test.n_gen) for batch in self._batches(1)]
        began = perf_counter()
        for batch in timed:
            self._decode(batch)
        return (test.n_prompt + test.n_gen) / (perf_counter() - began)

    def _batches(self, num_tokens: int) -> Iterator[ctypes.Array[ctypes.c_int32]]:
        while num_tokens > 0:
            length = min(num_tokens, N_BATCH)
            yield (ctypes.c_int32 * length)(*self._random.choices(range(self._n_vocab), k=length))
            num_tokens -= length

    def _decode(self, batch: ctypes.Array[ctypes.c_int32]) -> None:
        if llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(batch, len(batch))):
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self._context)


def measure(
    shape: str, tests: list[BenchTest], chosen: argparse.Namespace, results: Results, rounds: int
) -> None:
    """Let both do each test, in turn."""
    model = bench_model(shape)
    print(model.description)
    n_ctx = max(test.num_cells for test in tests)
    n_ctx = -(-n_ctx // 256) * 256
    loop = Loop(str(model.path), n_ctx, chosen.threads)
    with (
        ModelManager(keep_alive=0) as manager,
        manager.load(
            model.path,
            n_ctx=n_ctx,
            n_seq_max=1,
            n_batch=N_BATCH,
            n_ubatch=N_BATCH,
            n_threads=chosen.threads,
            mmproj="",
        ) as loaded,
    ):
        for test in tests:
            repetitions = Repetitions(loaded, test, threading.Event())
            runs: dict[str, Callable[[], float]] = {
                "ours": lambda one=repetitions: one.once().tok_per_s,  # type: ignore[misc]
                "loop": lambda one=test: loop.once(one),  # type: ignore[misc]
            }
            for run in runs.values():
                run()
            speeds: dict[str, list[float]] = {name: [] for name in runs}
            for number in range(rounds):
                for name in list(runs)[:: 1 if number % 2 else -1]:  # each is first as often
                    speeds[name].append(runs[name]())
            ours, raw = (statistics.median(speeds[name]) for name in runs)
            ratio = statistics.median(
                mine / theirs for mine, theirs in zip(speeds["ours"], speeds["loop"], strict=True)
            )
            results.add(
                Finding(
                    what=f"{shape}: {test.name}",
                    ours=f"{ours:,.1f} tokens/s",
                    peer=f"bare llama_decode {raw:,.1f}",
                    reading=f"{ratio:.3f} of its speed",
                    ratio=ratio,
                )
            )


def main() -> int:
    chosen = read_options(options(__doc__, rounds=9))
    silence()
    results = Results("bench", chosen, f"{chosen.threads} threads, batches of {N_BATCH}")
    if chosen.tiny:
        measure("tiny", tests_of(32, 8, 16), chosen, results, 1)
    elif chosen.quick:
        measure("smollm2-135m", tests_of(256, 32, 256), chosen, results, 3)
    else:
        measure("smollm2-135m", tests_of(512, 128, 512), chosen, results, chosen.rounds)
    return results.finish()


def tests_of(n_prompt: int, n_gen: int, depth: int) -> list[BenchTest]:
    return [
        BenchTest(n_prompt=n_prompt, n_gen=0),
        BenchTest(n_prompt=0, n_gen=n_gen),
        BenchTest(n_prompt=n_prompt, n_gen=0, n_depth=depth),
        BenchTest(n_prompt=0, n_gen=n_gen, n_depth=depth),
    ]


if __name__ == "__main__":
    sys.exit(main())
