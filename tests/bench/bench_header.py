"""How long it takes to read a model file's header, beside gguf.GGUFReader, on 151,936 tokens.

    python tests/bench/bench_header.py [--rounds 21] [--peer-rounds 3] [--file MODEL.gguf]

The file is made here, the same each time: as many tokens and merges as Qwen2's vocabulary has, of
about the same lengths, and a table of 290 tensors. Our reader answers what `ModelInfo` holds and
the tensor table; GGUFReader does no less, and makes an object for each token. It is the named peer
because it is what Python programs read these files with. Then a folder of 50 such models is listed,
twice.

Beside the clock's time stands the processor's, which other programs at work do not lengthen much;
the goals are held against that.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from gguf import GGUFReader  # noqa: E402 - the path comes first
from support.gguf_writer import (  # noqa: E402
    Tensor,
    Typed,
    header_bytes,
    model_entries,
)

from gguf_widgets.core.gguf import read_header  # noqa: E402
from gguf_widgets.core.library import ModelLibrary  # noqa: E402

NUM_TOKENS, NUM_MERGES = 151_936, 151_387
GOAL_S = 0.050
GOAL_FOLDER_S, GOAL_AGAIN_S = 1.0, 0.050
NUM_MODELS = 50
OURS, PEER, BY_HAND = "gguf_widgets.read_header", "gguf.GGUFReader", "(its texts, one by one)"


def make_model(path: Path) -> None:
    """Write the file; the tensors' data is a hole in it."""
    rng = random.Random(0)  # noqa: S311 - it keeps no secret
    letters = "abcdefghijklmnopqrstuvwxyzĠéü漢"
    # Lengths as in a real vocabulary: most of 3 to 9 letters, a few long runs of spaces.
    lengths = rng.choices(range(1, 17), weights=range(32, 0, -2), k=NUM_TOKENS)
    tokens = ["".join(rng.choices(letters, k=length)) for length in lengths]
    for place in range(5000, 150_000, 3000):
        tokens[place] = "Ġ" * rng.randrange(40, 400)
    merges = [f"{a} {b}" for a, b in itertools.pairwise(tokens[: NUM_MERGES + 1])]
    entries = {
        **model_entries("qwen2"),
        "tokenizer.ggml.tokens": Typed("array", ("string", tokens)),
        "tokenizer.ggml.token_type": Typed("array", ("int32", [1] * NUM_TOKENS)),
        "tokenizer.ggml.merges": Typed("array", ("string", merges)),
        "tokenizer.chat_template": Typed("string", "{{ messages }}" * 100),
    }
    tensors = [Tensor(f"blk.{i // 12}.part_{i % 12}.weight", (896,)) for i in range(290)]
    header, size = header_bytes(entries.items(), tensors)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + -len(header) % 32 + size)


def plain_loop(path: Path) -> None:
    """Step over the two lists of texts by hand, for comparison: no checks, nothing else read."""
    data, unpack = path.read_bytes(), struct.Struct("<Q").unpack_from
    for key, count in ((b".tokens", NUM_TOKENS), (b".merges", NUM_MERGES)):
        pos = data.index(key) + len(key) + 16
        for _ in range(count):
            pos += 8 + unpack(data, pos)[0]


class Timed(NamedTuple):
    """One run: seconds by the clock and of the processor."""

    clock: float
    processor: float


def timed(action: Callable[[], object]) -> Timed:
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return Timed(time.perf_counter() - clock, time.process_time() - processor)


def median(runs: list[Timed]) -> Timed:
    return Timed(*(statistics.median(times) for times in zip(*runs, strict=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--file", type=Path, help="read this file instead of making one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "models" / "m00.gguf"
        if options.file is None:
            path.parent.mkdir()
            make_model(path)
        read_header(path).info()  # once unmeasured: the file is in memory, NumPy imported

        runs: dict[str, list[Timed]] = {OURS: [], PEER: [], BY_HAND: []}
        for number in range(max(options.rounds, options.peer_rounds)):
            if number < options.rounds:
                runs[OURS].append(timed(lambda: read_header(path).info()))
            if number < options.peer_rounds:  # in turn, so that a busy moment meets both
                runs[PEER].append(timed(lambda: GGUFReader(path)))
                if options.file is None:
                    runs[BY_HAND].append(timed(lambda: plain_loop(path)))
        title = f"one header, {path.stat().st_size / 1e6:.1f} MB"
        print(f"{title:26} {'clock':>11} {'processor':>11}   (medians)")
        for name, times in runs.items():
            if times:
                clock, processor = median(times)
                count = f"{len(times)} rounds"
                print(f"{name:26} {clock * 1000:8.1f} ms {processor * 1000:8.1f} ms   ({count})")
        mine, peer = median(runs[OURS]), median(runs[PEER])
        by_clock, by_processor = peer.clock / mine.clock, peer.processor / mine.processor
        print(f"ratio: gguf.GGUFReader takes {by_clock:.0f} x as long ({by_processor:.0f} x)")
        print(f"ratio: {mine.processor / GOAL_S:.2f} of the goal of {GOAL_S * 1000:.0f} ms")
        if options.file is not None:
            return 0 if mine.processor < GOAL_S else 1

        for number in range(1, NUM_MODELS):
            shutil.copyfile(path, path.with_name(f"m{number:02}.gguf"))
        library = ModelLibrary([path.parent])
        first = timed(library.entries)
        again = median([timed(library.entries) for _ in range(options.rounds)])
        token = median([timed(library.change_token) for _ in range(options.rounds)])
        print(f"{f'a folder of {NUM_MODELS} of them':26} {'clock':>11} {'processor':>11}")
        for name, run in (("listed", first), ("listed again", again), ("any change?", token)):
            print(f"{name:26} {run.clock * 1000:8.1f} ms {run.processor * 1000:8.1f} ms")
        parts = first.processor / GOAL_FOLDER_S, again.processor / GOAL_AGAIN_S
        print(f"ratio: {parts[0]:.2f} and {parts[1]:.2f} of the goals (1 s, again 50 ms)")
        return 0 if max(mine.processor / GOAL_S, *parts) < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
