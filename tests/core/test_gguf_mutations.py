"""Damaged and hostile headers: no crash, no hang, no more than 100 MB, one clear error."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gguf_fuzz import read_all
from support.gguf_writer import (
    Tensor,
    Typed,
    header_bytes,
    model_bytes,
    model_entries,
    text,
)
from support.tiny_model import write_tiny_model

from gguf_widgets.core.errors import ModelFileError

REPOSITORY = Path(__file__).parents[2]
FUZZ = REPOSITORY / "tests" / "support" / "gguf_fuzz.py"
MUTATIONS = 21_000


def fuzz(folder: Path, count: int, files: list[Path]) -> dict[str, Any]:
    """Run support/gguf_fuzz.py, whose memory is limited, and return what it says."""
    program = [sys.executable, str(FUZZ), str(folder), str(count), "1"]
    run = subprocess.run(
        program + [str(path) for path in files],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    result: dict[str, Any] = json.loads(run.stdout)
    return result


@pytest.mark.timeout(300)  # some 10 s on a quiet machine
def test_tens_of_thousands_of_damaged_headers_within_100_mb(tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    small.write_bytes(model_bytes(x__nested=Typed("array", ("array", [("uint8", [1, 2])]))))
    # Enough tokens to be walked in blocks.
    words = tmp_path / "words.gguf"
    tokens = Typed("array", ("string", [b"w%d" % i for i in range(4200)]))
    words.write_bytes(model_bytes(tokenizer__ggml__tokens=tokens))
    real = write_tiny_model(tmp_path / "real.gguf", n_layer=1)
    result = fuzz(tmp_path, MUTATIONS, [small, words, real])
    assert result["read"] == MUTATIONS
    assert result["growth_mb"] < 100
    # The mutations reach every part of the reader, and do not all fail at the front door.
    assert result["outcomes"]["accepted"] > MUTATIONS / 20
    for kind in ("NotGgufError", "TruncatedFileError", "MalformedHeaderError"):
        assert result["outcomes"][kind] > 20


edits = st.lists(
    st.tuples(st.integers(0, 5000), st.binary(min_size=0, max_size=12), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@given(changes=edits)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=300,
)
def test_any_few_edits_of_a_header_are_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, bytes, int]]
) -> None:
    data = model_bytes()
    for place, piece, removed in changes:
        start = place % (len(data) + 1)
        data = data[:start] + piece + data[start + removed :]
    path = tmp_path / "edited.gguf"
    path.write_bytes(data)
    with contextlib.suppress(ModelFileError):
        read_all(path)


def sparse(path: Path, start: bytes, size: int) -> None:
    """Write a file that begins so and goes on with zeros, which take no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def head(num_tensors: int, num_keys: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_keys) + rest


def list_of(kind: int, count: int) -> bytes:
    return text("k") + struct.pack("<IIQ", 9, kind, count)


def one_text(length: int) -> bytes:
    return text("k") + struct.pack("<IQ", 8, length)


def long_text(number: int) -> bytes:
    return text(f"k{number}") + struct.pack("<IQ", 8, 10**6) + b"x" * 10**6


# Files that are as large as they say, made to cost as much as can be.
HUGE: dict[str, tuple[Callable[[], bytes], int]] = {
    "a list of as many empty texts as allowed": (lambda: head(0, 1, list_of(8, 1 << 21)), 1 << 25),
    "more empty texts than allowed": (lambda: head(0, 1, list_of(8, (1 << 21) + 1)), 1 << 25),
    "as many empty lists as allowed": (lambda: head(0, 1, list_of(9, 1 << 14)), 1 << 24),
    "a list of a thousand million numbers": (lambda: head(0, 1, list_of(10, 1 << 30)), 1 << 34),
    "one text of a gigabyte": (lambda: head(0, 1, one_text(1 << 30)), 1 << 31),
    "all the tensors allowed, all alike": (lambda: head(100_000, 0, b""), 1 << 24),
    "texts that stop the walk in blocks": (
        lambda: head(
            0,
            1,
            list_of(8, 100_000) + (text("abc") * 255 + text(b"\0" * 9) + text(b"x" * 300)) * 389,
        ),
        1 << 23,
    ),
    "thousands of long texts": (
        lambda: head(0, 60, b"".join(long_text(i) for i in range(60))),
        1 << 26,
    ),
}


@pytest.mark.timeout(300)
def test_files_made_to_cost_much_cost_little(tmp_path: Path) -> None:
    paths = []
    for case, (make, size) in HUGE.items():
        path = tmp_path / f"{case}.gguf"
        sparse(path, make(), size)
        paths.append(path)
    tensors = [Tensor(f"blk.{i}.weight", (4,), offset=32 * i) for i in range(100_000)]
    header, size = header_bytes(model_entries().items(), tensors)
    paths.append(tmp_path / "as many tensors as allowed.gguf")
    sparse(paths[-1], header, len(header) + size + 32)
    result = fuzz(tmp_path, 0, paths)  # which limits the processor's time of each
    assert result["read"] == len(paths)
    assert result["outcomes"].keys() >= {"accepted", "VocabularyOnlyError", "MalformedHeaderError"}
