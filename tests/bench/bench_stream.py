"""One stream: our engine beside `llama_cpp.Llama` streaming and a bare `llama_decode` loop.

    python tests/bench/bench_stream.py [--rounds 9] [--tokens 96] [--threads 2 | --busy]

The model has the shape of SmolLM2-135M with random weights (Q8_0) and 49,152 made-up tokens; it is
written once, to tests/bench/cache. Each round lets each of the three continue the same prompt, in
turn, with the same sampler settings and threads; a round's ratios compare what ran next to each
other, and the medians of the ratios are printed, so that other load on the machine meets all alike.
Also printed: the share of the engine's time that is spent inside `llama_decode`, and how soon an
interrupted prompt comes back.
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
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.tiny_model import byte_letters  # noqa: E402 - the path comes first

from gguf_widgets.core.engine.engine import Engine  # noqa: E402
from gguf_widgets.core.engine.open import open_backend  # noqa: E402
from gguf_widgets.core.types import (  # noqa: E402
    Finished,
    GenerateRequest,
    LoadSettings,
    SamplingSettings,
)

CACHE = Path(__file__).with_name("cache") / "smollm2-135m-shape-q8_0.gguf"
N_CTX, SEED = 4096, 1
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
GOAL_RAW, GOAL_PEER = 0.97, 1.0


Clock = Callable[[], float]


def write_model(path: Path) -> None:
    """SmolLM2-135M's published shape: 30 layers, width 576, 9 heads, 3 KV heads."""
    n_embd, n_layer, n_head, n_kv, n_ff, n_vocab = 576, 30, 9, 3, 1536, 49_152
    head = n_embd // n_head
    rng = np.random.default_rng(0)
    part = path.with_suffix(".part")
    w = GGUFWriter(part, "llama")
    letters = byte_letters()
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [f"w{number:x}" for number in range(n_vocab - len(letters) - len(control))]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([*letters, *words, *control])
    w.add_token_types(
        [TokenType.NORMAL] * (n_vocab - len(control)) + [TokenType.CONTROL] * len(control)
    )
    w.add_token_merges(["t h", "th e"])
    w.add_bos_token_id(n_vocab - 3)
    w.add_eos_token_id(n_vocab - 1)
    w.add_add_bos_token(False)
    w.add_context_length(8192)
    w.add_embedding_length(n_embd)
    w.add_block_count(n_layer)
    w.add_feed_forward_length(n_ff)
    w.add_head_count(n_head)
    w.add_head_count_kv(n_kv)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(head)
    w.add_file_type(7)  # mostly Q8_0

    def matrix(name: str, rows: int, columns: int) -> None:
        data = rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5)
        packed = quants.quantize(data, GGMLQuantizationType.Q8_0)
        w.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)

    def ones(name: str) -> None:
        w.add_tensor(name, np.ones(n_embd, np.float32))

    matrix("token_embd.weight", n_vocab, n_embd)
    ones("output_norm.weight")
    for i in range(n_layer):
        b = f"blk.{i}."
        ones(b + "attn_norm.weight")
        ones(b + "ffn_norm.weight")
        matrix(b + "attn_q.weight", n_embd, n_embd)
        matrix(b + "attn_k.weight", head * n_kv, n_embd)
        matrix(b + "attn_v.weight", head * n_kv, n_embd)
        matrix(b + "attn_output.weight", n_embd, n_embd)
        matrix(b + "ffn_gate.weight", n_ff, n_embd)
        matrix(b + "ffn_up.weight", n_ff, n_embd)
        matrix(b + "ffn_down.weight", n_embd, n_ff)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    part.replace(path)


def ours(engine: Engine, prompt: list[int], count: int, clock: Clock) -> Callable[[], float]:
    sampling = SamplingSettings(**SAMPLING, seed=SEED, max_tokens=count)

    def run() -> float:
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


def peer(
    path: Path, prompt: list[int], count: int, n_threads: int, clock: Clock
) -> Callable[[], float]:
    model = llama_cpp.Llama(
        str(path), n_ctx=N_CTX, n_threads=n_threads, n_threads_batch=n_threads, verbose=False
    )

    def run() -> float:
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


def raw(
    path: Path, prompt: list[int], count: int, n_threads: int, clock: Clock
) -> Callable[[], float]:
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

    def run() -> float:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--busy",
        action="store_true",
        help="for a busy machine: one thread, and the process's own CPU time instead of the clock",
    )
    options = parser.parse_args()
    path = CACHE
    clock: Clock = process_time if options.busy else perf_counter
    if options.busy:
        options.threads = 1
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        print(f"writing {path.name} ...", flush=True)
        write_model(path)

    load = LoadSettings(n_ctx=N_CTX, n_batch=512, n_threads=options.threads)
    engine = Engine(open_backend("llama.cpp", path, load))
    letters = engine.tokenize("The quick brown fox jumps over the lazy dog. " * 8)
    prompt = letters[:64]
    runs = {
        "this engine": ours(engine, prompt, options.tokens, clock),
        "llama_cpp.Llama": peer(path, prompt, options.tokens, options.threads, clock),
        "bare llama_decode": raw(path, prompt, options.tokens, options.threads, clock),
    }
    for run in runs.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds):
        names = list(runs)
        for name in names[number % 3 :] + names[: number % 3]:  # each is first as often
            speeds[name].append(runs[name]())
    share = share_in_decode(engine, runs["this engine"], options.tokens, clock)
    latencies = [interrupt_latency(engine, prompt) for _ in range(5)]
    engine.close()

    print(
        f"one stream, {len(prompt)} prompt + {options.tokens} new tokens,"
        f" {options.threads} threads, {path.name}" + (", by CPU time" if options.busy else "")
    )
    for name, values in speeds.items():
        print(f"{name:20} {statistics.median(values):8.1f} tokens/s  (median of {options.rounds})")
    ratios = {
        name: statistics.median(
            mine / theirs for mine, theirs in zip(speeds["this engine"], speeds[name], strict=True)
        )
        for name in ("llama_cpp.Llama", "bare llama_decode")
    }
    print(f"ratio: {ratios['llama_cpp.Llama']:.3f} x llama_cpp.Llama (goal: above {GOAL_PEER})")
    print(f"ratio: {ratios['bare llama_decode']:.3f} x bare llama_decode (goal: {GOAL_RAW})")
    print(f"share of the engine's time inside llama_decode: {share:.1%}")
    print(f"an interrupted prompt comes back in {statistics.median(latencies) * 1000:.1f} ms")
    good = ratios["llama_cpp.Llama"] > GOAL_PEER and ratios["bare llama_decode"] >= GOAL_RAW
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
