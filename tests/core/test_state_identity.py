"""What a saved state belongs to: which model file, which settings, which runtime."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.tiny_models import write_model

from gguf_widgets.core.errors import StateFileError
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.state_identity import ModelFiles, StateIdentity, check_same
from gguf_widgets.core.types import LoadSettings, ModelInfo

INFO = ModelInfo(
    path="m.gguf", name="M", architecture="llama", size_bytes=10, num_parameters=1,
    quantization="Q8_0", n_ctx_train=1, n_vocab=9, n_layer=2, n_head=1, n_head_kv=1, n_embd=8,
)  # fmt: skip
LOAD = LoadSettings(type_k="f16", flash_attn=True, n_ctx=512, n_threads=2)


def test_model_files_are_told_apart_by_more_than_their_size(tmp_path: Path) -> None:
    digests = set()
    for seed in range(3):
        path = write_model(tmp_path / f"{seed}.gguf", "llama", seed=seed)
        digests.add(ModelFiles(path, "llama.cpp").digest())
    assert len({(tmp_path / f"{seed}.gguf").stat().st_size for seed in range(3)}) == 1
    assert len(digests) == 3
    copy = tmp_path / "renamed.gguf"
    shutil.copy(tmp_path / "0.gguf", copy)
    assert ModelFiles(copy, "llama.cpp").digest() in digests
    large = tmp_path / "large.gguf"
    with large.open("wb") as file:
        file.truncate(50 << 20)
    before = ModelFiles(large, "llama.cpp").digest()
    for tmp_path in (0, (50 << 20) - 1, (25 << 20) + 30_000):
        with large.open("r+b") as file:
            file.seek(tmp_path)
            file.write(b"x" * 50_000 if tmp_path else b"x")
        assert ModelFiles(large, "llama.cpp").digest() not in (before, *digests)
        digests.add(ModelFiles(large, "llama.cpp").digest())


def test_a_model_file_that_was_changed_after_loading_belongs_to_nothing(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "llama")
    other = write_model(tmp_path / "o.gguf", "llama", seed=1)
    for change in (lambda: other.replace(path), path.touch, path.unlink):
        files = ModelFiles(path, "llama.cpp")
        assert files.digest() == files.digest()
        change()
        with pytest.raises(StateFileError, match="changed, moved or removed") as caught:
            files.digest()
        assert caught.value.details["problem"] == "model_changed"
    assert ModelFiles(path, "scripted").digest()  # reads no file


def check(
    info: ModelInfo = INFO,
    digest: str = "abc",
    load: LoadSettings = LOAD,
    runtime: str = "llama.cpp 1",
) -> None:
    """Take a state of `INFO`, as it is read from a file, to another model or other settings."""
    saved = msgspec.msgpack.encode(StateIdentity.of(INFO, "abc", LOAD, "llama.cpp 1"))
    here = StateIdentity.of(info, digest, load, runtime)
    check_same(msgspec.msgpack.decode(saved, type=StateIdentity), here, '"a.prefix"')


def test_a_state_is_taken_back_where_it_means_the_same() -> None:
    check()
    check(load=LOAD.replace(n_ctx=4096, n_threads=8, n_batch=64, n_seq_max=2, n_gpu_layers=5))
    check(info=INFO.replace(name="renamed", path="elsewhere.gguf"))


@pytest.mark.parametrize(
    ("problem", "words", "other"),
    [
        ("other_model", 'another model, "M".*is "N"', {"info": INFO.replace(name="N", n_embd=9)}),
        ("other_model", "precision, Q8_0.*Q4_0", {"info": INFO.replace(quantization="Q4_0")}),
        ("other_model", "another file of the model", {"digest": "abd"}),
        ("other_settings", "type_k was 'f16' and is 'q8_0'", {"load": LOAD.replace(type_k="q8_0")}),
        ("other_settings", "flash_attn was True", {"load": LOAD.replace(flash_attn=False)}),
        ("other_settings", "lora was", {"load": LOAD.replace(lora=(("/a.gguf", 1.0),))}),
        ("other_runtime", "by llama.cpp 1, .* is llama.cpp 2", {"runtime": "llama.cpp 2"}),
    ],
)
def test_what_differs_is_said_by_name(problem: str, words: str, other: dict[str, Any]) -> None:
    with pytest.raises(StateFileError, match=words) as caught:
        check(**other)
    assert caught.value.details["problem"] == problem


def test_every_setting_of_a_loading_has_been_thought_about() -> None:
    """A new one counts as changing the numbers; if it does not, it is to be listed as such."""
    counted = set(StateIdentity.of(INFO, "", LoadSettings(), "").settings)
    assert counted == {"type_k", "type_v", "flash_attn", "lora"}


def test_the_header_of_a_real_model_gives_an_identity(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "llama")
    info = read_header(path).info()
    identity = StateIdentity.of(info, "d", LoadSettings(), "r").model
    assert (identity.architecture, identity.n_layer) == ("llama", info.n_layer)
    assert str(identity).startswith('"tiny llama" (llama, ')
