"""Another quantization of a model: llama.cpp's own to the byte; nothing is left of a failed one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.gguf_writer import F32, Tensor, Typed, header_bytes
from support.tiny_model import write_tiny_model
from support.tiny_models import write_model

from gguf_widgets.core.care import converting as convert_module
from gguf_widgets.core.care.converting import convert, quantizations
from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.care.quantizations import checked_quantization
from gguf_widgets.core.errors import (
    InvalidValueError,
    MissingDependencyError,
    NotGgufError,
    ProjectorFileError,
)
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.demo import demo_model_path
from tests.core.care.conftest import contents, put, put_projector
from tests.core.care.converting import direct, hidden, llama_entries, refused

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
    ),
    pytest.mark.usefixtures("no_process_is_left"),
]


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


def test_a_file_that_is_called_by_its_hash_gets_the_name_that_the_list_has(
    folder: Path, tmp_path: Path
) -> None:
    blob = tmp_path / ".ollama" / "models" / "blobs" / f"sha256-{'ab' * 32}"
    blob.parent.mkdir(parents=True)
    write_model(blob, "llama", number_format="f16")
    entry = ModelEntry(name="tiny/llama:1b", path=blob, info=None, error=None, source="Ollama")
    assert convert(entry, "Q8_0").path == folder / "tiny-llama-1b-Q8_0.gguf"
    assert convert(blob, "Q8_0").path == folder / "tiny-llama-Q8_0.gguf"  # as the header calls it


def test_the_threads_make_no_difference(folder: Path, slow_model: Path) -> None:
    one = convert(slow_model, "Q4_0", name="one", n_threads=1).path.read_bytes()
    assert convert(slow_model, "Q4_0", name="four", n_threads=4).path.read_bytes() == one
