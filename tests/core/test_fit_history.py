"""What loads have taken improves predictions, never makes them less safe, and never gets lost."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_model import write_tiny_model

from gguf_widgets.core import fit_history
from gguf_widgets.core.doctor_engine import _estimates
from gguf_widgets.core.fit import choose_settings, estimate
from gguf_widgets.core.fit_estimate import TOKEN_BYTES, WORKER_BYTES, Footprint
from gguf_widgets.core.fit_history import LoadRecord, correction_for, history_path, read, record
from gguf_widgets.core.fit_measured import Measured
from gguf_widgets.core.gguf import GgufHeader, read_header
from gguf_widgets.core.types import LoadSettings

GB = 10**9
MB = 10**6


@pytest.fixture
def tiny(tmp_path: Path) -> GgufHeader:
    return read_header(write_tiny_model(tmp_path / "tiny.gguf"))


def chosen_for(header: GgufHeader, **asked: Any) -> LoadSettings:
    settings, _ = choose_settings(header, LoadSettings(**asked), free_bytes=8 * GB, n_cores=2)
    return settings


def measured(kv: int, compute: int, process: int = 60 * MB) -> Measured:
    buffers = {"CPU_Mapped model": 5 * MB, "CPU KV": kv, "CPU output": MB, "CPU compute": compute}
    return Measured(buffers=buffers, rss_bytes=GB, private_bytes=process + kv + MB)


def test_the_same_graph_is_predicted_as_it_was_measured(tiny: GgufHeader) -> None:
    settings = chosen_for(tiny)
    before = estimate(tiny, settings)
    buffer = Footprint(tiny).buffer_bytes(settings)
    record(tiny, settings, measured(before.kv_bytes, 3 * MB))
    after = estimate(tiny, settings, correction=correction_for(tiny, settings))
    assert before.compute_bytes - after.compute_bytes == buffer - 3 * MB
    assert (after.kv_bytes, after.weights_bytes) == (before.kv_bytes, before.weights_bytes)
    # The newest counts, and takes the place of the one before.
    record(tiny, settings, measured(before.kv_bytes, 4 * MB))
    assert correction_for(tiny, settings).compute_bytes == 4 * MB
    assert len(read()[0]) == 1


def test_another_graph_learns_only_that_its_formula_is_too_small(tiny: GgufHeader) -> None:
    settings, other = chosen_for(tiny), chosen_for(tiny, n_ctx=512)
    buffer, kept = Footprint(tiny).buffer_bytes(settings), estimate(tiny, settings).kv_bytes
    record(tiny, settings, measured(kept // 2, buffer // 2))
    assert estimate(tiny, other, correction=correction_for(tiny, other)) == estimate(tiny, other)
    record(tiny, settings, measured(kept * 2, buffer * 3))
    correction = correction_for(tiny, other)
    assert correction.compute_bytes is None
    assert (correction.kv_factor, correction.compute_factor) == pytest.approx((2, 3))
    assert estimate(tiny, other, correction=correction).kv_bytes == pytest.approx(
        2 * estimate(tiny, other).kv_bytes, rel=0.01
    )
    # Other architectures, and other builds of llama.cpp, are other formulas.
    records = [msgspec.structs.replace(load, architecture="qwen2") for load in read()[0]]
    assert correction_for(tiny, other, (), records).compute_factor == 1
    records = [msgspec.structs.replace(load, build="another") for load in read()[0]]
    assert correction_for(tiny, settings, (), records).compute_bytes is None


def test_a_process_that_takes_more_than_others_is_expected_again(tiny: GgufHeader) -> None:
    settings = chosen_for(tiny)
    n_vocab = Footprint(tiny).graph.n_vocab
    record(tiny, settings, measured(MB, MB, process=WORKER_BYTES // 2))
    assert estimate(tiny, settings, correction=correction_for(tiny, settings)).process_bytes == (
        WORKER_BYTES + n_vocab * TOKEN_BYTES
    )
    record(tiny, settings, measured(MB, MB, process=3 * WORKER_BYTES))
    assert estimate(tiny, settings, correction=correction_for(tiny, settings)).process_bytes == (
        3 * WORKER_BYTES
    )


@given(
    kv=st.integers(0, 10**13),
    compute=st.integers(0, 10**13),
    process=st.integers(0, 10**13),
)
def test_no_measurement_makes_a_prediction_unsafe(
    tmp_path_factory: pytest.TempPathFactory, kv: int, compute: int, process: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "one.gguf"
    header = read_header(path if path.exists() else write_tiny_model(path))
    settings = chosen_for(header, n_ctx=768)
    plain = estimate(header, settings)
    load = LoadRecord(
        loaded_at=0.0,
        architecture="llama",
        build=fit_history._build(()),
        graph="of another one",
        n_vocab=300,
        predicted_kv_bytes=plain.kv_bytes,
        predicted_compute_bytes=Footprint(header).buffer_bytes(settings),
        measured=measured(kv, compute, process),
    )
    need = estimate(header, settings, correction=correction_for(header, settings, (), [load]))
    assert need.weights_bytes == plain.weights_bytes
    assert plain.kv_bytes <= need.kv_bytes <= 4.1 * plain.kv_bytes
    assert plain.compute_bytes <= need.compute_bytes <= 4.1 * plain.compute_bytes
    assert need.process_bytes >= plain.process_bytes


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff\xfe", b'{"version": 99}', b'{"loads": [1]}', b" " * 2_000_000]
)
def test_a_broken_file_is_told_and_written_anew(content: bytes, tiny: GgufHeader) -> None:
    history_path().parent.mkdir(parents=True)
    history_path().write_bytes(content)
    loads, note = read()
    assert loads == []
    assert note is not None
    assert str(history_path()) in note
    settings = chosen_for(tiny)
    assert estimate(tiny, settings, correction=correction_for(tiny, settings))
    record(tiny, settings, measured(MB, MB))
    loads, note = read()
    assert (len(loads), note) == (1, None)


def test_the_file_stays_small(tiny: GgufHeader) -> None:
    settings = chosen_for(tiny)
    record(tiny, settings, measured(MB, MB))
    one = read()[0][0]
    loads = [msgspec.structs.replace(one, graph=str(number)) for number in range(500)]
    history_path().write_bytes(msgspec.json.encode({"version": 1, "loads": loads}))
    record(tiny, settings, measured(MB, MB))
    loads = read()[0]
    assert len(loads) == 200
    assert loads[-1].graph == one.graph
    assert loads[0].graph == "301"


def test_a_folder_that_cannot_be_written_stops_nothing(home: Path, tiny: GgufHeader) -> None:
    (home / "memory").write_text("a file where a folder should be")
    record(tiny, chosen_for(tiny), measured(MB, MB))
    assert read()[0] == []


def _record_some(path: str, number: int) -> None:
    header = read_header(path)
    for n_ctx in range(1, 11):
        settings = LoadSettings(n_ctx=256 * n_ctx, n_batch=number + 1)
        record(header, settings, measured(MB, MB))


def test_programs_that_write_at_once_lose_nothing(tiny: GgufHeader) -> None:
    context = multiprocessing.get_context("spawn")
    programs = [
        context.Process(target=_record_some, args=(str(tiny.path), number)) for number in range(3)
    ]
    for program in programs:
        program.start()
    for program in programs:
        program.join(60)
    assert [program.exitcode for program in programs] == [0, 0, 0]
    assert len(read()[0]) == 30
    assert not list(history_path().parent.glob("*.new"))


def test_the_doctor_says_how_close_estimates_have_been(tiny: GgufHeader) -> None:
    assert list(_estimates()) == []
    settings = chosen_for(tiny)
    need, buffer = estimate(tiny, settings), Footprint(tiny).buffer_bytes(settings)
    record(tiny, settings, measured(2 * need.kv_bytes, 2 * buffer))
    (finding,) = _estimates()
    assert "1 model was measured" in finding.value
    assert "at 50% of what they take" in finding.value
    history_path().write_bytes(b"{")
    (finding,) = _estimates()
    assert finding.status == "hint"
    assert str(history_path()) in finding.advice
