"""Rows as a measurement makes them, with the figures that a test wants. No test by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gguf_widgets.core.bench.machine import Engine, Machine
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.bench.row import SETTINGS, BenchModel, BenchRow

MACHINE = Machine(processor="A processor", num_cores=4, memory_gib=16, system="Linux x86_64")
ENGINE = Engine(package="1.0", version="0.3.36", build="abc")
NOVEMBER_3 = 1_793_706_300.0  # 2026, in the morning wherever it is


def make_row(
    samples: Sequence[float] = (100.0, 101.0, 99.0, 100.5, 99.5),
    *,
    at: float = NOVEMBER_3,
    name: str = "a",
    settings: dict[str, Any] | None = None,
    test: BenchTest | None = None,
    **changes: Any,
) -> BenchRow:
    chosen = {**dict.fromkeys(SETTINGS), "n_threads": 2, **(settings or {})}
    row = BenchRow(
        bench_id=f"bench at {at}",
        at=at,
        machine=MACHINE,
        engine=ENGINE,
        model=BenchModel(
            name=name,
            digest=f"digest of {name}",
            architecture="llama",
            quantization="Q8_0",
            size_bytes=3_000_000,
            num_parameters=3_000_000,
            backend="llama.cpp",
            settings=chosen,
        ),
        test=test or BenchTest(n_prompt=0, n_gen=128),
        samples=list(samples),
        each_samples=list(samples),
        seconds=[128 / sample for sample in samples],
        repetitions=5,
        warmup=True,
        num_processors=4,
        other_cores=0.0,
    )
    return msgspec.structs.replace(row, **changes)
