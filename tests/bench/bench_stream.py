"""One stream: our engine beside `llama_cpp.Llama` streaming and a bare `llama_decode` loop.

    python tests/bench/bench_stream.py [--rounds 21] [--tokens 96] [--threads 2 | --busy]

Each round lets each of them continue the same prompt, in turn, with the same sampler settings and
threads, and another prompt than before, so that nobody has it in a cache. Our engine has its turn
with an empty cache, as the others have theirs, and once more with one that is half full of earlier
conversations, past which its attention has to look. A round's ratios
compare what ran next to each other, and their medians count, so that other load on the machine
meets all alike. Also printed: the share of the engine's time that is spent inside `llama_decode`,
and how soon an interrupted prompt comes back.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import llama_cpp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402
from bench.vocabulary import silence  # noqa: E402

from gguf_widgets.core.engine.engine import Engine  # noqa: E402
from gguf_widgets.core.engine.open import open_backend  # noqa: E402
from gguf_widgets.core.types import (  # noqa: E402
    Finished,
    GenerateRequest,
    LoadSettings,
    SamplingSettings,
)

N_CTX, NUM_PROMPT, SEED = 4096, 64, 1
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
GOAL_RAW, GOAL_PEER = 0.97, 1.0
OURS, PEER, RAW = "this engine", "llama_cpp.Llama", "bare llama_decode"
HALF_FULL = "this engine, its cache half full"
NUM_EARLIER = 8  # conversations that fill half a cache

Clock = Callable[[], float]
Run = Callable[[list[int]], float]


def ours(engine: Engine, count: int, clock: Clock, *, clear: bool) -> Run:
    sampling = SamplingSettings(**SAMPLING, seed=SEED, max_tokens=count)

    def run(prompt: list[int]) -> float:
        if clear:
            engine.clear_cache()
        start = clock()
        engine.add_request(
            GenerateRequest(request_id="x", client_id="c", prompt_tokens=prompt, sampling=sampling)
        )
        while True:
            for event in engine.step():
                if isinstance(event, Finished):
                    seconds = clock() - start
                    return event.reply.usage.num_completion_tokens / seconds

    return run


def peer(path: Path, count: int, n_threads: int, clock: Clock) -> Run:
    model = llama_cpp.Llama(
        str(path), n_ctx=N_CTX, n_threads=n_threads, n_threads_batch=n_threads, verbose=False
    )

    def run(prompt: list[int]) -> float:
        model.reset()  # so that the prompt is computed, as it is by the others
        start = clock()
        stream = model.create_completion(
            prompt,
            max_tokens=count,
            stream=True,
            seed=SEED,
            temperature=SAMPLING["temperature"],
            top_k=int(SAMPLING["top_k"]),
            top_p=SAMPLING["top_p"],
            min_p=SAMPLING["min_p"],
        )
        for _ in stream:
            pass
        seconds = clock() - start
        return (model.n_tokens - len(prompt) + 1) / seconds

    return run


def raw(path: Path, count: int, n_threads: int, clock: Clock) -> Run:
    """The least that a reply can cost: decode, sample, decode, sample."""
    lib = llama_cpp
    params = lib.llama_model_default_params()
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    options = lib.llama_context_default_params()
    options.n_ctx = N_CTX
    options.n_batch = options.n_ubatch = 512
    options.n_threads = options.n_threads_batch = n_threads
    context = lib.llama_init_from_model(model, options)
    memory = lib.llama_get_memory(context)

    def run(prompt: list[int]) -> float:
        lib.llama_memory_seq_rm(memory, -1, -1, -1)
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_k(SAMPLING["top_k"]))
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(SAMPLING["top_p"], 1))
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_min_p(SAMPLING["min_p"], 1))
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_temp(SAMPLING["temperature"]))
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_dist(SEED))
        start = clock()
        tokens = (ctypes.c_int32 * len(prompt))(*prompt)
        batch = lib.llama_batch_get_one(tokens, len(prompt))
        for _ in range(count):
            if lib.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")
            tokens = (ctypes.c_int32 * 1)(lib.llama_sampler_sample(chain, context, -1))
            batch = lib.llama_batch_get_one(tokens, 1)
        seconds = clock() - start
        lib.llama_sampler_free(chain)
        return count / seconds

    return run


def share_in_decode(engine: Engine, run: Callable[[], float], count: int, clock: Clock) -> float:
    """Which part of a stream's time is spent inside llama_decode."""
    inside, decode = 0.0, engine.backend.decode

    def timed(num_tokens: int) -> int:
        nonlocal inside
        start = clock()
        code = decode(num_tokens)
        inside += clock() - start
        return code

    engine.backend.decode = timed  # type: ignore[method-assign]
    try:
        seconds = count / run()
        return inside / seconds
    finally:
        engine.backend.decode = decode  # type: ignore[method-assign]


def interrupt_latency(engine: Engine, prompt: list[int]) -> float:
    """Seconds from `interrupt`, in the middle of a batch of a long prompt, to the step's end."""
    sampling = SamplingSettings(seed=SEED, max_tokens=1)
    long_prompt = (prompt * (N_CTX // len(prompt) + 1))[:N_CTX]
    engine.add_request(
        GenerateRequest(
            request_id="long", client_id="c", prompt_tokens=long_prompt, sampling=sampling
        )
    )
    start = perf_counter()
    engine.step()
    one_batch = perf_counter() - start
    asked = 0.0

    def interrupt() -> None:
        nonlocal asked
        asked = perf_counter()
        engine.interrupt()

    timer = threading.Timer(one_batch / 2, interrupt)
    timer.start()
    engine.step()
    seconds = perf_counter() - asked
    timer.join()
    engine.abort("long")
    engine.step()
    return seconds


def fill(engine: Engine, maker: RowMaker) -> None:
    """Have some conversations, which stay in half of the cache."""
    num_own = N_CTX // 2 // NUM_EARLIER
    earlier = maker.work(NUM_EARLIER, num_own=num_own, num_new=1, seed=-1).prompts
    for number, prompt in enumerate(earlier):
        engine.add_request(
            GenerateRequest(
                request_id=str(number),
                client_id="c",
                prompt_tokens=prompt,
                sampling=SamplingSettings(max_tokens=1),
            )
        )
    while engine.has_work:
        engine.step()
    if engine.stats().num_cells_kept < N_CTX // 3:
        raise RuntimeError("the earlier conversations have not stayed in the cache")


def measure(
    shape: str, chosen: argparse.Namespace, results: Results, *, count: int, rounds: int
) -> None:
    """Let all of them continue a prompt by `count` tokens, in turn."""
    model = bench_model(shape)
    path = Path(model.path)
    clock: Clock = process_time if chosen.busy else perf_counter
    print(f"{model.description}, {count} new tokens")
    load = LoadSettings(n_ctx=N_CTX, n_batch=512, n_threads=chosen.threads)
    engine, half_full = (Engine(open_backend("llama.cpp", path, load)) for _ in range(2))
    maker = RowMaker(model.path)
    prompts = maker.work(rounds + 2, num_own=NUM_PROMPT, num_new=count).prompts
    fill(half_full, maker)
    runs = {
        OURS: ours(engine, count, clock, clear=True),
        HALF_FULL: ours(half_full, count, clock, clear=False),
        PEER: peer(path, count, chosen.threads, clock),
        RAW: raw(path, count, chosen.threads, clock),
    }
    for run in runs.values():
        run(prompts[-1])
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)
        for name in names[number % 4 :] + names[: number % 4]:  # each is first as often
            speeds[name].append(runs[name](prompts[number]))
    share = share_in_decode(engine, lambda: runs[OURS](prompts[-2]), count, clock)
    latencies = [interrupt_latency(engine, prompt) for prompt in prompts[:5]]
    engine.close()
    half_full.close()

    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        print(f"  {name:40} {median:8.1f} tokens/s")
    for mine, name, goal in (
        (OURS, PEER, GOAL_PEER),
        (OURS, RAW, GOAL_RAW),
        (HALF_FULL, RAW, None),
    ):
        ratio = statistics.median(a / b for a, b in zip(speeds[mine], speeds[name], strict=True))
        results.add(
            Finding(
                what=f"{shape}: one stream" + ("" if mine == OURS else ", the cache half full"),
                ours=f"{medians[mine]:.1f} tokens/s",
                peer=f"{name} {medians[name]:.1f}",
                reading=f"{ratio:.3f} of its speed" if name == RAW else f"{ratio:.2f} x {name}",
                ratio=ratio,
                goal=goal,
                strict=name == PEER,
            )
        )
    print(f"  share of the engine's time inside llama_decode: {share:.1%}")
    latency = statistics.median(latencies)
    print(f"  an interrupted prompt comes back in {latency * 1000:.1f} ms")


def main() -> int:
    parser = options(__doc__, rounds=21)
    parser.add_argument("--tokens", type=int, default=96, help="new tokens in each turn")
    chosen = read_options(parser)
    silence()
    conditions = f"{NUM_PROMPT} prompt tokens, {chosen.threads} threads" + (
        ", by CPU time" if chosen.busy else ""
    )
    results = Results("stream", chosen, conditions)
    if chosen.tiny:
        measure("tiny", chosen, results, count=16, rounds=1)
    elif chosen.quick:
        measure("smollm2-135m", chosen, results, count=48, rounds=3)
    else:
        measure("smollm2-135m", chosen, results, count=chosen.tokens, rounds=chosen.rounds)
        measure("qwen2.5-0.5b", chosen, results, count=32, rounds=9)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
