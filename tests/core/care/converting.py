"""What the tests of conversions share: llama.cpp called straight, and a model that takes its time.

Not a test and no fixture.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_writer import Tensor, Typed, header_bytes, model_entries

from gguf_widgets.core.care.quantizations import file_type_of
from gguf_widgets.core.errors import (
    FileChangeError,
)

MODULE = "gguf_widgets.core.engine.llama.quantize"

DIRECT = """
import ctypes, os, sys
import llama_cpp as lib
params = lib.llama_model_quantize_default_params()
params.ftype, params.nthread, params.allow_requantize = int(sys.argv[3]), 2, True
model, to = map(os.fsencode, sys.argv[1:3])
raise SystemExit(lib.llama_model_quantize(model, to, params))
"""


def direct(model: Path, form: str, to: Path) -> bytes:
    """What llama.cpp makes of it when it is called straight, in a process of its own."""
    arguments = [str(model), str(to), str(file_type_of(form))]
    subprocess.run(
        [sys.executable, "-c", DIRECT, *arguments], check=True, capture_output=True, timeout=100
    )
    return to.read_bytes()


def llama_entries() -> dict[str, Typed]:
    """Return what llama.cpp wants to know of a model before it converts it."""
    epsilon = Typed("float32", 1e-5)
    return {**model_entries(), "llama.attention.layer_norm_rms_epsilon": epsilon}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".gguf")]


def refused(call: Any, *arguments: Any, **keywords: Any) -> FileChangeError:
    with pytest.raises(FileChangeError) as caught:
        call(*arguments, **keywords)
    assert caught.value.message.endswith(".")
    return caught.value


def write_slow_model(path: Path) -> Path:
    """Write a model whose conversion takes some seconds: 126 MB of random numbers."""
    shape = (2048, 3840)
    tensors = [Tensor(f"blk.{n}.ffn_up.weight", shape) for n in range(4)]
    header, _ = header_bytes(llama_entries().items(), tensors)
    numbers = np.random.default_rng(0).standard_normal(4 * shape[0] * shape[1], np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + b"\0" * (-len(header) % 32) + numbers.tobytes())
    return path
