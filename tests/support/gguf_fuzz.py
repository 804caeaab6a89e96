"""Reads damaged and hostile GGUF files in a process whose memory is limited.

Run by tests/core/test_gguf_mutations.py:

    python tests/support/gguf_fuzz.py FOLDER COUNT SEED FILE...

COUNT damaged versions of the files (0: the files themselves) are written to FOLDER, read, judged
and described as the rest of the program would do it. Allowed are success and a `ModelFileError`;
anything else ends the run with status 1, says what was wrong and leaves the file as
FOLDER/failed.gguf. On success one line of JSON says what happened. The limit (Linux) is on private
memory, so it holds for Python and NumPy alike, and a mapped file does not count.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np  # noqa: F401  # loaded before the memory is limited and measured
from support.gguf_writer import model_bytes

from gguf_widgets.core.errors import ModelFileError
from gguf_widgets.core.fit import check_fits, choose_settings
from gguf_widgets.core.gguf import GgufArray, GgufText, check_is_model, read_header
from gguf_widgets.core.inspect import describe, to_json
from gguf_widgets.core.types import LoadSettings

LIMIT_BYTES = 100_000_000
# For one file, in times of `yardstick`, which is what 5 s were. The worst file takes about 40, and
# took 80 while the tensors were gone over eleven times.
LONGEST = 70.0
EDGES = [0, 1, 2, 3, 8, 9, 13, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
WIDE = [*EDGES, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def read_all(path: Path) -> None:
    """Do with a file what the program does with one: any error but ModelFileError is a fault."""
    header = read_header(path)
    for value in header.metadata.values():
        if isinstance(value, GgufArray):
            value.values(0, 20)
        elif isinstance(value, GgufText):
            value.value(limit=100)
    assert describe(header).replace("\n", "").isprintable()
    json.dumps(to_json(header), allow_nan=False)
    check_is_model(header)
    settings, _ = choose_settings(header, LoadSettings(), free_bytes=2**34, n_cores=2)
    assert check_fits(header, settings, free_bytes=2**80).total_bytes > 0


def mutations(header: bytes, count: int, rng: random.Random) -> Iterator[tuple[bytes, bool]]:
    """Yield `count` damaged versions of a header, and whether its file goes on behind it."""
    size = len(header)
    for number in range(count):
        if number < size and number < count // 4:
            # One byte after the other, all through a small header: the top bit, or every bit.
            place = number * size // min(size, count // 4)
            changed = bytearray(header)
            changed[place] ^= 0x80 if number % 2 else 0xFF
            yield bytes(changed), True
        elif rng.random() < 0.1:
            yield header[: rng.randrange(size)], False
        else:
            yield (
                rng.choice((flip, overwrite, set_u32, set_u64, splice, several))(header, size, rng),
                True,
            )


def flip(base: bytes, size: int, rng: random.Random) -> bytes:
    changed = bytearray(base)
    changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(base: bytes, size: int, rng: random.Random) -> bytes:
    place, length = rng.randrange(size), rng.randrange(1, 17)
    return base[:place] + rng.randbytes(length) + base[place + length :]


def set_u32(base: bytes, size: int, rng: random.Random) -> bytes:
    place = rng.randrange(size)
    return base[:place] + struct.pack("<I", rng.choice(EDGES)) + base[place + 4 :]


def set_u64(base: bytes, size: int, rng: random.Random) -> bytes:
    # The counts of tensors and entries, more often than their 16 bytes would come up.
    place = rng.choice((8, 16)) if rng.random() < 0.1 else rng.randrange(size)
    return base[:place] + struct.pack("<Q", rng.choice(WIDE)) + base[place + 8 :]


def splice(base: bytes, size: int, rng: random.Random) -> bytes:
    """Put one stretch of the header in the place of another, or in between."""
    start, place = rng.randrange(size), rng.randrange(size)
    piece = base[start : start + rng.randrange(1, 65)]
    return base[:place] + piece + base[place + rng.choice((0, len(piece))) :]


def several(base: bytes, size: int, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(2, 6)):
        size = max(1, min(size, len(base)))
        base = rng.choice((flip, overwrite, set_u32, set_u64, splice))(base, size, rng)
    return base


def limit_memory() -> None:
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        data = next(line for line in status.splitlines() if line.startswith("VmData:"))
        limit = int(data.split()[1]) * 1024 + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def yardstick() -> float:
    """Return the seconds that this machine takes, just now, for a fixed piece of Python.

    It is done five times, for the mean: a single time differs by a third.
    """
    start = time.process_time()
    counts: dict[str, int] = {}
    for number in range(1_000_000):
        name = f"blk.{number % 1000}.weight"
        counts[name] = counts.get(name, 0) + number
    assert len(counts) == 1000
    return (time.process_time() - start) / 5


class Judge:
    """Reads files and keeps count of what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.unit_s = yardstick()

    def read(self, path: Path, whence: str) -> None:
        # The processor's time and not the clock's: other programs are at work here, too.
        start = time.process_time()
        try:
            read_all(path)
            outcome = "accepted"
        except ModelFileError as error:
            outcome, message = type(error).__name__, error.message
            if not message.isprintable() or len(message) > 600:
                self.fail(path, f"{whence}: a message unfit to be shown: {message!r}")
        except BaseException as error:
            self.fail(path, f"{whence}: {type(error).__name__}: {error}")
            raise
        seconds = time.process_time() - start
        if seconds > LONGEST * self.unit_s:  # perhaps the machine has become slower since
            self.unit_s = max(self.unit_s, yardstick())
        times = seconds / self.unit_s
        self.slowest = max(self.slowest, times)
        if times > LONGEST:
            self.fail(path, f"{whence}: it took {seconds:.1f} s, {times:.0f} times the yardstick")
        self.outcomes[outcome] += 1

    def fail(self, path: Path, reason: str) -> None:
        if path.stat().st_size < 10_000_000:
            shutil.copyfile(path, self.folder / "failed.gguf")
        raise SystemExit(reason)


def main() -> int:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    bases = [Path(name) for name in sys.argv[4:]]
    judge = Judge(folder)
    small = folder / "warm.gguf"
    small.write_bytes(model_bytes())
    read_all(small)  # so that everything is imported before memory is limited
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit_memory()
    mutant = folder / "mutant.gguf"
    for base in bases:
        if not count:
            judge.read(base, base.name)
            continue
        rng = random.Random(f"{seed} {base.name}")  # noqa: S311  # it keeps no secret
        data = base.read_bytes()
        size = min((tensor.offset for tensor in read_header(base).tensors), default=len(data))
        for changed, goes_on in mutations(data[:size], count // len(bases), rng):
            # One file written over and over: emptying it first would flush it to the disk each
            # time. The tensors' data behind the header is what happens to be there.
            with mutant.open("r+b" if mutant.exists() else "xb") as file:
                file.write(changed)
                file.truncate(len(changed) + (len(data) - size if goes_on else 0))
            judge.read(mutant, f"a mutation of {base.name} (seed {seed})")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "read": judge.outcomes.total(),
        "outcomes": dict(judge.outcomes.most_common()),
        "slowest": judge.slowest,
        "peak_mb": after / 1024,
        "growth_mb": (after - before) / 1024,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
