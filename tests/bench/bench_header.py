"""How long it takes to read a model file's header, beside gguf.GGUFReader, on 151,936 tokens.

    python tests/bench/bench_header.py [--rounds 21] [--peer-rounds 3] [--quick]

The file is made here, the same each time: as many tokens and merges as Qwen2's vocabulary has, of
about the same lengths, and a table of 290 tensors. Our reader answers what `ModelInfo` holds and
the tensor table; GGUFReader does no less, and makes an object for each token. It is the named peer
because it is what Python programs read these files with.

Then a folder of 50 such models is listed: for the first time, again, and by a new session, which
has only what the first one left on the disk. The same with 1,000 models of 32,000 tokens, which is
what the Llama 2 family has: 1,000 of the large ones would be 6 GB to copy.

Beside the clock's time stands the processor's, which other programs at work do not lengthen much;
the goals are held against that.
"""

from __future__ import annotations

import argparse
import itertools
import os
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

from bench.harness import options, read_options  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from gguf import GGUFReader  # noqa: E402 - the path comes first
from support.gguf_writer import (  # noqa: E402
    Tensor,
    Typed,
    header_bytes,
    model_entries,
)

from gguf_widgets.core.gguf import read_header  # noqa: E402
from gguf_widgets.core.library import ModelLibrary  # noqa: E402
from gguf_widgets.core.library.cache import HEADERS  # noqa: E402

NUM_TOKENS, NUM_NO_MERGE = 151_936, 548  # bytes and control tokens come of no merge
GOAL_S = 0.050
GOAL_FOLDER_S, GOAL_AGAIN_S = 1.0, 0.050
NUM_MODELS, NUM_MANY, NUM_FEW_TOKENS = 50, 1000, 32_000
OURS, PEER, BY_HAND = "gguf_widgets.read_header", "gguf.GGUFReader", "(its texts, one by one)"


def make_model(path: Path, num_tokens: int) -> None:
    """Write the file; the tensors' data is a hole in it."""
    rng = random.Random(0)  # noqa: S311 - it keeps no secret
    letters = "abcdefghijklmnopqrstuvwxyzĠéü漢"
    # Lengths as in a real vocabulary: most of 3 to 9 letters, a few long runs of spaces.
    lengths = rng.choices(range(1, 17), weights=range(32, 0, -2), k=num_tokens)
    tokens = ["".join(rng.choices(letters, k=length)) for length in lengths]
    for place in range(num_tokens // 30, num_tokens, num_tokens // 50):
        tokens[place] = "Ġ" * rng.randrange(40, 400)
    merges = [f"{a} {b}" for a, b in itertools.pairwise(tokens[: num_tokens - NUM_NO_MERGE])]
    entries = {
        **model_entries("qwen2"),
        "tokenizer.ggml.tokens": Typed("array", ("string", tokens)),
        "tokenizer.ggml.token_type": Typed("array", ("int32", [1] * num_tokens)),
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
    for key in (b".tokens", b".merges"):
        pos = data.index(key) + len(key) + 16
        for _ in range(unpack(data, pos - 8)[0]):
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
    parser = options(__doc__, rounds=21)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--file", type=Path, help="read this file instead of making one")
    chosen = read_options(parser)
    if chosen.quick or chosen.tiny:
        chosen.rounds, chosen.peer_rounds = 5, 1
    num_tokens = NUM_TOKENS // 50 if chosen.tiny else NUM_TOKENS
    results = Results("header", chosen)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GGUF_WIDGETS_HOME"] = str(Path(folder) / "home")  # where headers are kept
        path = chosen.file or Path(folder) / "models" / "m00.gguf"
        if chosen.file is None:
            path.parent.mkdir()
            make_model(path, num_tokens)
        read_header(path).info()  # once unmeasured: the file is in memory, NumPy imported

        runs: dict[str, list[Timed]] = {OURS: [], PEER: [], BY_HAND: []}
        for number in range(max(chosen.rounds, chosen.peer_rounds)):
            if number < chosen.rounds:
                runs[OURS].append(timed(lambda: read_header(path).info()))
            if number < chosen.peer_rounds:  # in turn, so that a busy moment meets both
                runs[PEER].append(timed(lambda: GGUFReader(path)))
                if chosen.file is None:
                    runs[BY_HAND].append(timed(lambda: plain_loop(path)))
        title = f"one header, {path.stat().st_size / 1e6:.1f} MB"
        print(f"{title:26} {'clock':>11} {'processor':>11}   (medians)")
        for name, times in runs.items():
            if times:
                clock, processor = median(times)
                count = f"{len(times)} rounds"
                print(f"{name:26} {clock * 1000:8.1f} ms {processor * 1000:8.1f} ms   ({count})")
        mine, peer = median(runs[OURS]), median(runs[PEER])
        made = f"reading a header with {num_tokens:,} tokens"
        what = made if chosen.file is None else f"reading the header of {path.name}"
        results.add(
            Finding(
                what=what,
                ours=f"{mine.processor * 1000:.1f} ms",
                peer=f"`{PEER}` {peer.processor:.1f} s",
                reading=f"the peer takes {peer.processor / mine.processor:.0f} times as long",
                ratio=mine.processor * 1000,
                goal=GOAL_S * 1000,
                less_is_better=True,
            )
        )
        if chosen.file is None:
            list_folders(Path(folder), path, chosen, results)
    return results.finish()


class Listed(NamedTuple):
    """How long a folder takes to list."""

    first: Timed
    session: Timed
    again: Timed
    token: Timed


def list_folder(path: Path, count: int, rounds: int) -> Listed:
    """List a folder of copies of a model: for the first time, in a new session, and again."""
    for number in range(1, count):
        shutil.copyfile(path, path.with_name(f"m{number:04}.gguf"))
    library = ModelLibrary([path.parent])
    first = timed(library.entries)
    sessions = []
    for _ in range(rounds):
        HEADERS.forget()
        sessions.append(timed(library.entries))
    again = median([timed(library.entries) for _ in range(rounds)])
    token = median([timed(library.change_token) for _ in range(rounds)])
    found = Listed(first, median(sessions), again, token)
    size = path.stat().st_size / 1e6
    print(f"{f'a folder of {count:,}, {size:.1f} MB':26} {'clock':>11} {'processor':>11}")
    names = ("listed", "... in a new session", "... again", "any change?")
    for name, run in zip(names, found, strict=True):
        print(f"{name:26} {run.clock * 1000:8.1f} ms {run.processor * 1000:8.1f} ms")
    return found


def list_folders(folder: Path, path: Path, chosen: argparse.Namespace, results: Results) -> None:
    """List both folders and say how that went."""
    few = list_folder(path, NUM_MODELS, chosen.rounds)
    small = folder / "many" / "m0000.gguf"
    small.parent.mkdir()
    make_model(small, NUM_FEW_TOKENS // 50 if chosen.tiny else NUM_FEW_TOKENS)
    many = list_folder(small, NUM_MANY // 50 if chosen.tiny else NUM_MANY, min(chosen.rounds, 5))
    such = f"listing a folder of {NUM_MODELS} such files"
    thousand = f"listing a folder of {NUM_MANY:,} files with {NUM_FEW_TOKENS:,} tokens"
    for what, run, goal in (
        (such, few.first, GOAL_FOLDER_S),
        (f"{such} in a new session", few.session, GOAL_AGAIN_S),
        (f"{such} again", few.again, GOAL_AGAIN_S),
        (thousand, many.first, None),
        (f"{thousand} in a new session", many.session, None),
        (f"{thousand} again", many.again, None),
    ):
        results.add(
            Finding(
                what=what,
                ours=f"{run.processor * 1000:.1f} ms",
                reading=f"{run.processor * 1000:.1f} ms",
                ratio=None if goal is None else run.processor * 1000,
                goal=None if goal is None else goal * 1000,
                less_is_better=True,
            )
        )


if __name__ == "__main__":
    sys.exit(main())
