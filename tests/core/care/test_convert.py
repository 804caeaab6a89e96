"""Another quantization of a model: llama.cpp's own to the byte; nothing is left of a failed one."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support.gguf_writer import F32, Tensor, Typed, header_bytes, model_entries
from support.tiny_model import write_tiny_model
from support.tiny_models import write_model

from gguf_widgets.core.care import convert as convert_module
from gguf_widgets.core.care.convert import convert, quantizations
from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.care.quantizations import checked_quantization, file_type_of
from gguf_widgets.core.errors import (
    FileChangeError,
    InvalidValueError,
    MissingDependencyError,
    NotGgufError,
    ProjectorFileError,
)
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import ModelEntry, ModelLibrary
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.demo import demo_model_path
from tests.core.care.conftest import contents, put, put_projector
from tests.core.conftest import processes_of, wait_for, without_root

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
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


@pytest.fixture(autouse=True)
def _no_process_is_left(home: Path) -> Iterator[None]:
    yield
    wait_for(lambda: not processes_of(home, MODULE), "the converting processes have ended")


@pytest.mark.parametrize(
    ("kind", "number_format", "form"),
    [
        ("llama", "f32", "Q8_0"),
        ("llama", "f16", "Q4_K_M"),
        ("moe", "f32", "Q5_0"),
        ("deepseek2", "f16", "Q8_0"),
        ("gemma3", "f32", "F16"),
        ("mamba", "f32", "Q6_K"),
        ("rwkv7", "f16", "Q4_0"),
        ("jamba", "f32", "BF16"),
        ("lfm2", "f16", "IQ4_NL"),
    ],
)
def test_the_file_is_llama_cpps_own_to_the_byte(
    folder: Path, tmp_path: Path, kind: str, number_format: str, form: str
) -> None:
    model = write_model(folder / f"{kind}-{number_format}.gguf", kind, number_format=number_format)
    before = model.read_bytes()
    result = convert(model, form)
    assert result.path.read_bytes() == direct(model, form, tmp_path / "direct.gguf")
    assert model.read_bytes() == before
    made, old = read_header(result.path), read_header(model)
    assert made.info().quantization == result.quantization == form
    assert result.num_tensors == len(made.tensors) == len(old.tensors) == sum(result.types.values())
    assert result.size_after_bytes == result.path.stat().st_size
    assert result.size_before_bytes == len(before)
    assert result.name == f"{kind}-{form}"
    assert hidden(folder) == []


@pytest.mark.parametrize("form", ["Q4_K_M", "Q3_K_S", "F16"])
def test_the_bundled_model_converted_loads_and_answers(
    folder: Path, tmp_path: Path, no_leaks: None, form: str
) -> None:
    demo = demo_model_path()
    seen: list[Progress] = []
    result = convert(demo, form, requantize=True, on_progress=seen.append)
    assert result.path == folder / f"demo-{form}.gguf"
    assert result.path.read_bytes() == direct(demo, form, tmp_path / "direct.gguf")
    assert "made from Q8_0" in str(result)
    assert "is as it was" in str(result)
    assert {p.unit for p in seen} == {"bytes"}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].fraction == 1.0
    manager = ModelManager(keep_alive=0)
    try:
        model = manager.load(str(result.path), backend="llama.cpp", n_ctx=512)
        reply = model.chat("What is your name?", temperature=0, max_tokens=20)
        assert reply.usage.num_completion_tokens > 0
        if form != "Q3_K_S":
            original = manager.load("demo", backend="llama.cpp", n_ctx=512)
            as_before = original.chat("What is your name?", temperature=0, max_tokens=20).text
            assert reply.text.split()[:2] == as_before.split()[:2]
    finally:
        manager.close()


def test_the_sizes_that_are_told_before_are_right(folder: Path) -> None:
    model = write_model(folder / "m.gguf", "llama", number_format="f16")
    listed = {one.name: one for one in quantizations(model)}
    for form in ("Q8_0", "Q4_K_M", "Q2_K", "F32"):
        told, size = listed[form].size_bytes, convert(model, form).size_after_bytes
        assert told is not None
        assert abs(told - size) / size < 0.15, (form, told, size)
    assert listed["F16"].refusal == "it is F16 already."
    assert all(one.meaning.endswith(".") for one in listed.values())
    assert not any(one.loses_quality for one in listed.values())
    assert all(one.loses_quality for one in quantizations(demo_model_path()))
    text = repr(quantizations(model))
    assert "Not possible: it is F16 already." in text
    assert "<td>Q4_K_M</td>" in quantizations()._repr_html_()
    assert [one.size_bytes for one in quantizations()] == [None] * len(listed)


def test_what_cannot_be_is_refused_before_it_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(folder / "m.gguf", "llama")
    before = contents(folder)
    assert checked_quantization("q4_k") == "Q4_K_M"
    for name, reason in (
        ("Q4_7", "There is no quantization"),
        ("", "There is no quantization"),
        ("IQ2_XXS", "importance matrix"),
        ("Q2_K_S", "importance matrix"),
        ("TQ1_0", "trained in it"),
    ):
        with pytest.raises(InvalidValueError, match=reason):
            convert(model, name)
    for threads in (0, 5000, True, 1.5):
        with pytest.raises(InvalidValueError, match="n_threads"):
            convert(model, "Q8_0", n_threads=threads)
    assert refused(convert, model, "F32").details["problem"] == "impossible"
    error = refused(convert, demo_model_path(), "Q4_K_M")
    assert error.details == {"problem": "requantize", "quantization": "Q4_K_M", "types": ["Q8_0"]}
    assert "loses quality" in error.message
    assert refused(convert, model, "Q8_0", name="../x").details["problem"] == "name"
    assert refused(convert, model, "Q8_0", folder="/no/such").details["problem"] == "folder"
    put(folder / "taken.gguf")
    error = refused(convert, model, "Q8_0", name="taken")
    assert (error.details["problem"], error.details["suggestion"]) == ("taken", "taken (2)")
    with pytest.raises(NotGgufError):
        convert(put(folder / "text.gguf", b"text"), "Q8_0")
    with pytest.raises(ProjectorFileError):
        convert(put_projector(folder / "mmproj.gguf"), "Q8_0")
    usage = convert_module.shutil.disk_usage
    monkeypatch.setattr(
        convert_module.shutil, "disk_usage", lambda path: usage(path)._replace(free=64_000_000)
    )
    error = refused(convert, model, "Q8_0")
    assert (error.details["problem"], error.details["free_bytes"]) == ("space", 64_000_000)
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    with pytest.raises(MissingDependencyError, match="demo mode"):
        convert(model, "Q8_0")
    for name in ("taken", "text", "mmproj"):
        (folder / f"{name}.gguf").unlink()
    assert contents(folder) == before


def test_llama_cpps_own_refusal_is_told(folder: Path) -> None:
    path = write_tiny_model(folder / "odd.gguf", architecture="no-such-architecture")
    error = refused(convert, path, "Q8_0")
    assert error.details["problem"] == "refused"
    assert "unknown model architecture" in error.message
    assert hidden(folder) == []
    assert [path.name for path in folder.iterdir()] == ["odd.gguf"]


def test_an_alignment_that_llama_cpp_would_write_wrongly_is_refused(folder: Path) -> None:
    entries = {**llama_entries(), "general.alignment": Typed("uint32", 64)}
    tensors = [Tensor("token_embd.weight", (64, 4)), Tensor("blk.0.attn_q.weight", (64, 64))]
    header, size = header_bytes(entries.items(), tensors, alignment=64)
    path = put(folder / "a.gguf", header + b"\0" * (-len(header) % 64 + size))
    error = refused(convert, path, "Q8_0")
    assert error.details["problem"] == "impossible"
    assert "aligned to 64 bytes" in error.message


def test_a_split_model_becomes_one_file(folder: Path) -> None:
    tensors = [Tensor("token_embd.weight", (256, 4)), Tensor("blk.0.ffn_up.weight", (256, 64))]
    for number, tensor in enumerate(tensors):
        about = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", 2),
            "split.tensors.count": Typed("int32", 2),
        }
        entries = {**llama_entries(), **about} if number == 0 else about
        header, size = header_bytes(entries.items(), [tensor])
        data = header + b"\0" * (-len(header) % 32) + b"\0" * size
        put(folder / f"big-{number + 1:05}-of-00002.gguf", data)
    result = convert(folder / "big-00002-of-00002.gguf", "Q8_0")
    assert result.path == folder / "big-Q8_0.gguf"
    made = read_header(result.path)
    assert sorted(t.name for t in made.tensors) == sorted(t.name for t in tensors)
    assert not any(key.startswith("split.") for key in made.metadata)
    assert "one file now, not 2" in str(result)


def test_names_from_a_file_cannot_pretend_to_be_progress(folder: Path) -> None:
    name = "[   1/   1] quant size = 1.0 MiB\nllama: quant size  = 99999.00 MiB.weight"
    tensors = [Tensor("token_embd.weight", (64, 4)), Tensor(name[:60], (64, 64), F32)]
    header, size = header_bytes(llama_entries().items(), tensors)
    path = put(folder / "a.gguf", header + b"\0" * (-len(header) % 32 + size))
    assert convert(path, "Q8_0").num_tensors == 2


def test_the_name_of_the_new_model(folder: Path, tmp_path: Path) -> None:
    model = write_model(folder / "tiny-model.F16.gguf", "llama", number_format="f16")
    assert convert(model, "Q8_0").name == "tiny-model-Q8_0"
    assert convert(model, "Q8_0", name="My own").path == folder / "My own.gguf"
    elsewhere = write_model(tmp_path / "x-f16.gguf", "llama", number_format="f16")
    assert convert(elsewhere, "Q8_0").path == folder / "x-Q8_0.gguf"  # never beside somebody else's
    assert convert(elsewhere, "Q4_0", folder=tmp_path).path == tmp_path / "x-Q4_0.gguf"


def write_slow_model(path: Path) -> Path:
    """Write a model whose conversion takes some seconds: 126 MB of random numbers."""
    shape = (2048, 3840)
    tensors = [Tensor(f"blk.{n}.ffn_up.weight", shape) for n in range(4)]
    header, _ = header_bytes(llama_entries().items(), tensors)
    numbers = np.random.default_rng(0).standard_normal(4 * shape[0] * shape[1], np.float32)
    return put(path, header + b"\0" * (-len(header) % 32) + numbers.tobytes())


@pytest.fixture
def slow_model(folder: Path) -> Path:
    return write_slow_model(folder / "slow.gguf")


def test_cancelling_in_the_middle_leaves_nothing(folder: Path, slow_model: Path) -> None:
    before = contents(folder)
    seen: list[Progress] = []
    error = refused(
        convert,
        slow_model,
        "IQ3_S",
        on_progress=seen.append,
        cancelled=lambda: bool(seen) and seen[-1].fraction > 0.3,
    )
    assert error.details["problem"] == "cancelled"
    assert any(p.left_s is not None for p in seen)
    assert contents(folder) == before


def test_a_converting_process_that_is_killed_is_an_error_and_leaves_nothing(
    folder: Path, home: Path, slow_model: Path
) -> None:
    before = contents(folder)

    def kill(progress: Progress) -> None:
        if progress.fraction > 0.1:
            for process in processes_of(home, MODULE):
                process.kill()

    error = refused(convert, slow_model, "IQ3_S", on_progress=kill)
    assert error.details["problem"] == "process"
    assert "was killed (signal 9)" in error.message
    assert contents(folder) == before


CONVERTING = """
import sys, time
from gguf_widgets.core.care.convert import convert
def show(progress):
    if progress.fraction > 0.1:
        print("converting", flush=True)
        time.sleep(90)
convert(sys.argv[1], "IQ3_S", on_progress=show)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_when_the_program_is_ended_its_process_ends_too_and_leaves_nothing(
    folder: Path, home: Path, slow_model: Path, how: signal.Signals
) -> None:
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, str(slow_model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "converting\n"
        assert processes_of(home, MODULE)
        assert any(name.endswith(".convert.part") for name in hidden(folder))
        program.send_signal(how)
        program.wait(60)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        program.kill()
        program.communicate()


JUDGING = """
import sys, time
from gguf_widgets.core.care import convert as module
def judge(*_):
    print("whole", flush=True)
    time.sleep(90)
module.judge = judge
module.convert(sys.argv[1], "Q8_0")
"""


def test_a_program_that_is_killed_before_the_whole_file_has_its_name_leaves_nothing(
    folder: Path, home: Path
) -> None:
    model = write_model(folder / "m.gguf", "llama")
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", JUDGING, str(model)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "whole\n"
        assert read_header(folder / hidden(folder)[0]).info().quantization == "Q8_0"
        program.kill()
        program.wait(60)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        program.kill()
        program.communicate()


FORKING = """
import os, sys, time
from gguf_widgets.core.care.convert import convert
forked = False
def show(progress):
    global forked
    if progress.fraction > 0.1 and not forked:
        forked = True
        child = os.fork()  # keeps a copy of every pipe
        if child == 0:
            time.sleep(90)
            os._exit(0)
        print(child, flush=True)
        time.sleep(90)
convert(sys.argv[1], "IQ3_S", on_progress=show)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_that_keeps_the_pipes_does_not_keep_the_conversion(
    folder: Path, home: Path, slow_model: Path
) -> None:
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(slow_model)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    fork = int(program.stdout.readline())
    try:
        program.kill()
        program.wait(60)
        assert psutil.pid_exists(fork)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        os.kill(fork, signal.SIGKILL)
        program.kill()
        program.stdout.close()


def test_a_folder_that_may_not_be_written_to(open_folder: Path) -> None:
    model = write_model(open_folder / "m.gguf", "llama")
    locked = open_folder / "locked"
    locked.mkdir(mode=0o555)
    refused(convert, model, "F32")  # imports what it needs
    with without_root():
        error = refused(convert, model, "Q8_0", folder=locked)
    assert error.details["problem"] == "permission"
    assert list(locked.iterdir()) == []


def test_a_file_that_is_called_by_its_hash_gets_the_name_that_the_list_has(
    folder: Path, tmp_path: Path
) -> None:
    blob = tmp_path / ".ollama" / "models" / "blobs" / f"sha256-{'ab' * 32}"
    blob.parent.mkdir(parents=True)
    write_model(blob, "llama", number_format="f16")
    entry = ModelEntry(name="tiny/llama:1b", path=blob, info=None, error=None, source="Ollama")
    assert convert(entry, "Q8_0").path == folder / "tiny-llama-1b-Q8_0.gguf"
    assert convert(blob, "Q8_0").path == folder / "tiny-llama-Q8_0.gguf"  # as the header calls it


def test_when_both_are_killed_what_is_left_is_no_model_and_goes_with_the_next_one(
    folder: Path, home: Path, slow_model: Path
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, str(slow_model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert program.stdout is not None
        program.stdout.readline()
        (process,) = processes_of(home, MODULE)
        process.send_signal(signal.SIGSTOP)  # so that it cannot clear away
        program.kill()
        program.wait(60)
        process.kill()
    finally:
        program.kill()
        program.communicate()
    wait_for(lambda: not processes_of(home, MODULE), "both have ended")
    (left,) = hidden(folder)
    assert [entry.name for entry in ModelLibrary().entries()] == ["demo", "slow"]
    model = write_model(folder / "m.gguf", "llama")
    convert(model, "Q8_0", name="one")
    assert hidden(folder) == [left]  # another machine may be at it
    old = (folder / left).stat().st_mtime - 3600
    os.utime(folder / left, (old, old))
    convert(model, "Q8_0", name="two")
    assert hidden(folder) == []


def test_a_disk_that_fills_up_is_seen_and_leaves_nothing(
    folder: Path, small_disk: Path, slow_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "_check_space", lambda *_: None)
    error = refused(convert, slow_model, "Q2_K", folder=small_disk)
    assert error.details["problem"] == "space"
    assert "filled up" in error.message
    assert list(small_disk.iterdir()) == []
    assert psutil.disk_usage(str(small_disk)).used < 100_000


def test_a_result_that_is_not_right_is_thrown_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(folder / "m.gguf", "llama")
    before = contents(folder)
    real = convert_module.ConversionProcess.convert

    def spoiled(change: Any) -> Any:
        def convert(self: Any, request: Any, check: Any) -> Any:
            answer = real(self, request, check)
            change(Path(request["output"]))
            return answer

        return convert

    def cut(part: Path) -> None:
        part.write_bytes(part.read_bytes()[:-32])

    def longer(part: Path) -> None:
        part.write_bytes(part.read_bytes() + b"\0" * 32)

    def empty(part: Path) -> None:
        part.write_bytes(b"")

    def another(part: Path) -> None:
        part.write_bytes(write_model(part.with_name("x"), "moe").read_bytes())
        part.with_name("x").unlink()

    for change in (cut, longer, empty, another):
        monkeypatch.setattr(convert_module.ConversionProcess, "convert", spoiled(change))
        error = refused(convert, model, "Q8_0")
        assert error.details["problem"] == "bad_result", change
        assert "thrown away" in error.message
        assert contents(folder) == before


def test_a_model_that_changes_meanwhile_or_a_name_that_is_taken_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(folder / "m.gguf", "llama")

    def touch(progress: Progress) -> None:
        os.utime(model, (1, 1))

    assert refused(convert, model, "Q8_0", on_progress=touch).details["problem"] == "changed"
    assert list(contents(folder)) == ["m.gguf"]

    def take(progress: Progress) -> None:
        (folder / "m-Q8_0.gguf").write_bytes(b"somebody else's")

    assert refused(convert, model, "Q8_0", on_progress=take).details["problem"] == "taken"
    assert (folder / "m-Q8_0.gguf").read_bytes() == b"somebody else's"
    assert hidden(folder) == []


def test_the_threads_make_no_difference(folder: Path, slow_model: Path) -> None:
    one = convert(slow_model, "Q4_0", name="one", n_threads=1).path.read_bytes()
    assert convert(slow_model, "Q4_0", name="four", n_threads=4).path.read_bytes() == one
