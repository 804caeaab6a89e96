"""Estimates are close to what llama.cpp takes; refusals name the numbers and what would fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.big_model import write_big_model
from support.gguf_writer import Typed, model_bytes
from support.tiny_model import write_tiny_model

from gguf_widgets.core import fit, fit_machine
from gguf_widgets.core.errors import InvalidValueError, NotEnoughMemoryError
from gguf_widgets.core.fit import check_fits, choose_settings, estimate, free_memory, usable_cores
from gguf_widgets.core.gguf import GgufHeader, read_header
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.demo import demo_model_path

GB = 10**9


def header(folder: Path, weights: int = 4 * GB, **changes: Typed) -> GgufHeader:
    return read_header(write_big_model(folder / "model.gguf", weights=weights, **changes))


def test_the_cache_is_counted_layer_by_layer(tmp_path: Path) -> None:
    settings = LoadSettings(n_ctx=4096)
    # 32 layers x 8 heads x 128 numbers, keys and values, 2 bytes each
    per_token = 32 * 8 * 128 * 2 * 2
    model = header(tmp_path)
    assert estimate(model, settings).kv_bytes == per_token * 4096
    eight_bit = settings.replace(type_k="q8_0", type_v="q8_0")
    assert estimate(model, eight_bit).kv_bytes == per_token * 4096 * 34 // 64
    one_head = Typed("array", ("int32", [8] * 16 + [0] * 16))
    model = header(tmp_path, llama__attention__head_count_kv=one_head)
    assert estimate(model, settings).kv_bytes == per_token * 4096 // 2
    wide = header(tmp_path, llama__attention__key_length=Typed("uint32", 256))
    assert estimate(wide, settings).kv_bytes == per_token * 4096 * 3 // 2


def test_what_does_not_fit_is_refused_with_the_numbers_and_what_would(tmp_path: Path) -> None:
    model = header(tmp_path)
    settings = LoadSettings(n_ctx=32768)
    need = estimate(model, settings)
    assert check_fits(model, settings, free_bytes=need.total_bytes) == need
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_fits(model, settings, free_bytes=int(7.1 * GB))
    error = caught.value
    assert error.message.startswith("This model needs 8.6 GB and 7.1 GB is free. It would fit with")
    assert (
        "its KV cache in 8 bits (type_k='q8_0', type_v='q8_0'; 6.5 GB), or with a" in error.message
    )
    assert error.details["needed_bytes"] == need.total_bytes
    assert error.details["free_bytes"] == int(7.1 * GB)
    assert json.loads(json.dumps(error.details)) == error.details
    fitting = error.details["fitting_n_ctx"]
    assert f"a context of {fitting:,} tokens instead of 32,768" in error.message
    check_fits(model, settings.replace(n_ctx=fitting), free_bytes=int(7.1 * GB))
    with pytest.raises(NotEnoughMemoryError):
        check_fits(model, settings.replace(n_ctx=fitting + 256), free_bytes=int(7.1 * GB))
    for option in error.details["options"]:
        changed = settings.replace(**option["changes"])
        assert (
            check_fits(model, changed, free_bytes=int(7.1 * GB)).total_bytes
            == option["total_bytes"]
        )
    with pytest.raises(NotEnoughMemoryError, match="choose a smaller model"):
        check_fits(model, settings, free_bytes=GB)


def test_the_demo_fits_any_normal_machine() -> None:
    model = read_header(demo_model_path())
    settings, notes = choose_settings(model, free_bytes=GB // 2, n_cores=2)
    assert notes == []
    assert settings.n_ctx == min(model.info().n_ctx_train, 8192)
    assert settings.n_threads == 1  # so small that threads would only wait for each other
    check_fits(model, settings, free_bytes=GB // 2)


@given(
    free_gb=st.floats(0.01, 64),
    n_ctx=st.none() | st.integers(16, 100_000),
    trained=st.integers(1, 200_000),
    n_batch=st.none() | st.integers(1, 4096),
    n_seq_max=st.none() | st.integers(1, 256),
    kv_unified=st.sampled_from([None, True, False]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
def test_settings_keep_what_was_asked_for_and_never_shrink_in_silence(
    tmp_path: Path,
    free_gb: float,
    n_ctx: int | None,
    trained: int,
    n_batch: int | None,
    n_seq_max: int | None,
    kv_unified: bool | None,
) -> None:
    model = header(tmp_path, llama__context_length=Typed("uint32", trained))
    asked = LoadSettings(n_ctx=n_ctx, n_batch=n_batch, n_seq_max=n_seq_max, kv_unified=kv_unified)
    chosen, notes = choose_settings(model, asked, free_bytes=int(free_gb * GB), n_cores=4)
    open_fields = {name for name, value in chosen.to_dict().items() if value is None}
    assert open_fields == {"flash_attn", "chat_template", "mmproj"}
    assert chosen.n_ctx is not None
    assert chosen.n_batch is not None
    assert chosen.n_ubatch is not None
    own = kv_unified is False
    assert chosen.kv_unified is not own
    assert chosen.n_seq_max is not None
    assert chosen.n_ubatch <= chosen.n_batch <= chosen.n_ctx * (chosen.n_seq_max if own else 1)
    assert n_seq_max in (None, chosen.n_seq_max)
    assert chosen.n_threads == 4
    wanted = max(16, min(trained, 2048 if own else 8192))
    said = [note for note in notes if "room of its own" in note]
    assert bool(said) == (own and n_ctx is None and trained > 2048)
    notes = [note for note in notes if note not in said]
    if n_ctx is not None:
        assert chosen.n_ctx == n_ctx
        assert any("trained with" in note for note in notes) == (n_ctx > trained)
    elif chosen.n_ctx < wanted:
        assert chosen.n_ctx >= fit.SMALLEST_CTX
        assert any(f"{chosen.n_ctx:,} tokens instead of {wanted:,}" in note for note in notes)
        if chosen.n_ctx > fit.SMALLEST_CTX:
            assert estimate(model, chosen).total_bytes <= free_gb * GB
    else:
        assert chosen.n_ctx == wanted
        assert notes == []


def test_own_caches_take_so_many_times_the_memory_and_one_for_all_is_offered(
    tmp_path: Path,
) -> None:
    model = header(tmp_path)
    own = LoadSettings(n_ctx=4096, n_seq_max=8, kv_unified=False)
    shared = own.replace(kv_unified=True)
    assert estimate(model, own).kv_bytes == 8 * estimate(model, shared).kv_bytes
    free = estimate(model, shared).total_bytes
    with pytest.raises(NotEnoughMemoryError, match="with one KV cache for all sequences") as caught:
        check_fits(model, own, free_bytes=free)
    assert caught.value.details["options"][0]["changes"] == {"kv_unified": True}


def test_who_cannot_have_own_caches_is_told(tmp_path: Path) -> None:
    model = read_header(write_tiny_model(tmp_path / "tiny.gguf", architecture="gemma2"))
    asked = LoadSettings(kv_unified=False, n_ctx=4096)
    chosen, notes = choose_settings(model, asked, free_bytes=100 * GB, n_cores=4)
    assert chosen.kv_unified
    assert any("a sliding window" in note and "kv_unified" in note for note in notes)


def test_settings_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    model = header(tmp_path)
    with pytest.raises(InvalidValueError, match="works only with flash_attn"):
        choose_settings(model, LoadSettings(type_v="q8_0", flash_attn=False))
    choose_settings(model, LoadSettings(type_v="q8_0"))


def group(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        available = 64 * GB

    monkeypatch.setattr(fit_machine.psutil, "virtual_memory", lambda: Machine)
    monkeypatch.setattr(fit_machine.os, "sched_getaffinity", lambda _: set(range(8)))
    own, none = tmp_path / "own", tmp_path / "none"
    assert free_memory(none, none) == 64 * GB
    assert usable_cores(none, none, none) == 8

    # Version 2: the tightest of the group and those above it; file contents make room themselves.
    two = tmp_path / "two"
    group(two, "", {"cgroup.controllers": "cpu memory", "memory.max": "max"})
    group(
        two,
        "a",
        {"memory.max": str(8 * GB), "memory.current": str(5 * GB), "cpu.max": "250000 100000"},
    )
    group(two, "a/b", {"memory.max": "max", "memory.current": str(GB), "cpu.max": "max 100000"})
    group(two, "a", {"memory.stat": f"anon 1\nactive_file {GB}\ninactive_file {GB}\nshmem 9"})
    own.write_text("0::/a/b\n", encoding="ascii")
    assert free_memory(two, own) == 5 * GB
    assert usable_cores(two, own, none) == 2

    # Version 1, where the group's own path is the host's and only its root can be seen.
    one = tmp_path / "one"
    limits = {"memory.limit_in_bytes": str(2 * GB), "memory.usage_in_bytes": str(3 * GB)}
    group(one, "memory", limits)
    group(one, "cpu,cpuacct", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"})
    own.write_text("4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n", encoding="ascii")
    assert free_memory(one, own) == 0
    assert usable_cores(one, own, none) == 1
    group(one, "memory", {"memory.limit_in_bytes": "9223372036854771712"})
    group(one, "cpu,cpuacct", {"cpu.cfs_quota_us": "-1"})
    assert free_memory(one, own) == 64 * GB
    assert usable_cores(one, own, none) == 8

    # Two threads of one core count once.
    for number in range(8):
        group(tmp_path / "cpus", f"cpu{number}/topology", {"core_cpus_list": f"{number % 4},x\n"})
    assert usable_cores(none, none, tmp_path / "cpus") == 4


def test_this_machine_gives_sensible_answers() -> None:
    assert 0 < free_memory() < 2**50
    assert 1 <= usable_cores() <= 4096


def test_the_shape_alone_never_breaks_the_estimate(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    odd = Typed("uint32", 2**31 - 1)
    path.write_bytes(
        model_bytes(
            llama__attention__head_count_kv=odd,
            llama__feed_forward_length=odd,
            llama__context_length=odd,
            llama__embedding_length=odd,
        )
    )
    model = read_header(path)
    chosen, notes = choose_settings(model, free_bytes=GB, n_cores=1)
    assert chosen.n_ctx == fit.SMALLEST_CTX
    assert notes
    with pytest.raises(NotEnoughMemoryError, match="This model needs"):
        check_fits(model, chosen, free_bytes=GB)
