"""llama.cpp's own words on its buffers become figures, whatever devices there are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.tiny_model import write_tiny_model

from gguf_widgets.core.engine.llama_log import LlamaLog
from gguf_widgets.core.fit import choose_settings, estimate
from gguf_widgets.core.fit_measured import Measured, measure
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.types import LoadSettings

INFO = 2
MIB = 2**20
# A split model, half of it on a card, with a sliding window and an adapter.
LINES = """\
llama_model_loader: loaded meta data with 30 key-value pairs and 300 tensors from model.gguf
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:   CPU_Mapped model buffer size =    50.00 MiB
load_tensors:   CPU_REPACK model buffer size =    25.00 MiB
load_tensors:        CUDA0 model buffer size =   200.50 MiB
llama_adapter_lora_init_impl:        CPU LoRA buffer size =     2.00 MiB
llama_context:  CUDA_Host  output buffer size =     4.00 MiB
llama_kv_cache:        CPU KV buffer size =     8.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    16.00 MiB
llama_kv_cache: size =   24.00 MiB (  4096 cells,  32 layers, 32/1 seqs), K (f16):   12.00 MiB
llama_kv_cache:        CPU KV buffer size =     1.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =     3.00 MiB
sched_reserve:      CUDA0 compute buffer size =    64.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    12.00 MiB
sched_reserve:      CUDA0 compute buffer size =    70.00 MiB
"""


def said(log: LlamaLog, text: str) -> None:
    for line in text.splitlines(keepends=True):
        log.take(INFO, line.encode())


def test_buffers_are_added_up_by_what_they_hold() -> None:
    log = LlamaLog()
    said(log, LINES)
    found = Measured(buffers=log.buffers, private_bytes=500 * MIB)
    assert found.weights_bytes == (100 + 50 + 25 + 200.5 + 2) * MIB
    assert found.kv_bytes == (8 + 16 + 1 + 3) * MIB
    assert found.compute_bytes == 70 * MIB  # one card's, and the last word on it
    assert found.gpu_bytes == (200.5 + 16 + 3 + 70) * MIB
    # Of its own it has what is neither a page of the file, nor a buffer, nor on the card.
    assert found.process_bytes == (500 - 25 - 2 - 4 - 8 - 1) * MIB
    # The next model begins anew.
    said(log, LINES.splitlines()[0])
    assert log.buffers == {}
    log.forget()
    said(log, LINES.splitlines()[1])
    log.forget()  # which concerns errors only
    assert log.buffers == {"CPU_Mapped model": 100 * MIB}


def test_lines_that_only_look_like_buffers_are_left_alone() -> None:
    log = LlamaLog()
    said(
        log,
        "print_info: file size   = 1.56 MiB\n"
        "llama_kv_cache: size = 24.00 MiB\n"
        "x:  buffer size = 1.0 MiB\n"
        "x: CPU KV buffer size = many MiB\n",
    )
    assert log.buffers == {}


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba"])
@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize("kv_unified", [True, False])
def test_a_real_load_takes_what_was_estimated(
    architecture: str, flash_attn: bool, kv_unified: bool, tmp_path: Path
) -> None:
    from gguf_widgets.core.engine.llama import LlamaBackend
    from gguf_widgets.core.engine.llama.library import log

    path = write_tiny_model(tmp_path / "tiny.gguf", architecture=architecture, n_ctx_train=8192)
    header = read_header(path)
    asked = LoadSettings(flash_attn=flash_attn, kv_unified=kv_unified)
    settings, _ = choose_settings(header, asked, free_bytes=8 * 10**9, n_cores=1)
    need = estimate(header, settings)
    backend = LlamaBackend(path, settings)
    try:
        assert settings.kv_unified is backend.settings.kv_unified
        assert settings.n_ctx == backend.settings.n_ctx
        told = measure(log.buffers)
    finally:
        backend.close()
    hundredths = 0.02 * MIB
    assert abs(told.kv_bytes - need.kv_bytes) < hundredths
    # Tensors are aligned, and what is not for llama.cpp is not mapped.
    assert abs(told.weights_bytes - need.weights_bytes) < 0.05 * MIB
    results = told.compute_bytes + told.buffers["CPU output"]
    # Of so small a model, what is counted by the piece is a part that can be seen.
    assert 0.97 * results <= need.compute_bytes + hundredths
    assert need.compute_bytes <= 1.5 * results + 2 * MIB
    assert told.rss_bytes > told.private_bytes > 0
