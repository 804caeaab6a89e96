"""What a sound file says comes back exactly, compared with gguf's own reader and writer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gguf_peer import assert_same_as_ggufs_reader
from support.gguf_writer import (
    MODEL_TENSORS,
    Q8_0,
    TYPES,
    Tensor,
    Typed,
    gguf_bytes,
    model_bytes,
    model_entries,
)
from support.tiny_model import write_tiny_model

from gguf_widgets.core import gguf_bytes as steps
from gguf_widgets.core.errors import MalformedHeaderError, UnreadableFileError
from gguf_widgets.core.gguf import GgufArray, GgufHeader, GgufText, check_is_model, read_header
from gguf_widgets.core.gguf_tables import FILE_TYPES, REMOVED_TENSOR_TYPES, TENSOR_TYPES

numbers = {
    "uint8": st.integers(0, 2**8 - 1),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
}
scalars = {**numbers, "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=30)}


@st.composite
def typed(draw: st.DrawFn) -> Typed:
    kind = draw(st.sampled_from(sorted(TYPES)))
    if kind != "array":
        return Typed(kind, draw(scalars[kind]))
    item = draw(st.sampled_from(sorted(scalars)))
    return Typed("array", (item, draw(st.lists(scalars[item], min_size=1, max_size=8))))


def plain(value: object) -> object:
    return value.values() if isinstance(value, GgufArray) else value


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    counter = itertools.count()

    def write(data: bytes, name: str | None = None) -> Path:
        path = tmp_path / (name or f"model{next(counter)}.gguf")
        path.write_bytes(data)
        return path

    return write


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20),
        typed(),
        max_size=12,
    ).map(lambda entries: {f"x.{key}": value for key, value in entries.items()}),
    st.sampled_from([2, 3]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
def test_every_type_reads_as_it_was_written(
    write: Callable[..., Path], entries: dict[str, Typed], version: int
) -> None:
    path = write(gguf_bytes(entries.items(), version=version), "model.gguf")
    header = read_header(path)
    assert header.version == version
    assert {key: plain(value) for key, value in header.metadata.items()} == {
        key: value.value[1] if value.type == "array" else value.value
        for key, value in entries.items()
    }
    assert_same_as_ggufs_reader(path)


def test_a_model_written_by_ggufs_writer_reads_the_same_in_both_readers(tmp_path: Path) -> None:
    assert_same_as_ggufs_reader(write_tiny_model(tmp_path / "tiny.gguf"))
    path = tmp_path / "types.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_array("x.mixed", [1.5, -2.0])
    for kind in (gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.IQ4_XS):
        size = gguf.GGML_QUANT_SIZES[kind][1]
        writer.add_tensor(kind.name, np.zeros((3, 2 * size), np.uint8), raw_dtype=kind)
    writer.add_tensor("half", np.zeros((5, 7), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_same_as_ggufs_reader(path)


# Vocabularies whose texts make the walk in blocks stumble in every way it can.
WORDS: dict[str, Callable[[int], bytes]] = {
    "short": lambda i: b"w%d" % i,
    "empty": lambda _: b"",
    "long": lambda i: b"x" * (250 + i % 12),
    "now and then very long": lambda i: b"y" * (70_000 if i % 3001 == 7 else 3),
    "zeros": lambda i: b"\0" * (i % 40),
    "looks like a length": lambda i: b"\3" + b"\0" * 7 if i % 2 else b"\2\0\0\0\0\0\0\0ab",
    "no UTF-8": lambda i: b"\xff\xfe%d" % i,
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("count", [5000, 4096, 4095])
def test_a_vocabulary_of_any_texts_is_stepped_over_exactly(
    words: str, count: int, write: Callable[..., Path]
) -> None:
    tokens = [WORDS[words](i) for i in range(count)]
    entries = {
        "tokenizer.ggml.tokens": Typed("array", ("string", tokens)),
        "after": Typed("uint32", 4711),
    }
    path = write(gguf_bytes(entries.items()))
    header = read_header(path)
    assert header.metadata["after"] == 4711
    array = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(array, GgufArray)
    assert len(array) == header.info().n_vocab == count
    assert array.values(0, 3) == [t.decode("utf-8", "replace") for t in tokens[:3]]
    assert array[-1] == tokens[-1].decode("utf-8", "replace")


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=60), st.integers(1, 200))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=100,
)
def test_the_walk_in_blocks_ends_where_the_walk_by_hand_does(
    texts: list[bytes], repeats: int
) -> None:
    data = b"".join(len(t).to_bytes(8, "little") + t for t in texts) * repeats
    cursor = steps.Cursor(data, Path("x"))
    count = len(texts) * repeats
    left = count
    while left:
        done, in_vain = cursor._skip_block(left)
        assert done or in_vain
        left -= done
        if not done:
            cursor._skip_each_text(1)
            left -= 1
    assert cursor.pos == len(data)


def test_info_of_a_whole_model(write: Callable[..., Path]) -> None:
    extra = {
        "general__author": Typed("string", "A. Nother"),
        "general__license": Typed("array", ("string", ["mit", "apache-2.0"])),
        "general__description": Typed("string", "line one\nline\x1b[2J two"),
        "general__file_type": Typed("uint32", 7),
        "llama__expert_count": Typed("uint32", 8),
    }
    path = write(model_bytes(**extra))
    info = read_header(path).info()
    assert info.to_dict() == {
        "path": str(path),
        "name": "Small test model",
        "architecture": "llama",
        "size_bytes": path.stat().st_size,
        "num_parameters": 64 * 4 + 64 + 64 * 64,
        "quantization": "Q8_0",
        "n_ctx_train": 2048,
        "n_vocab": 4,
        "n_layer": 2,
        "n_head": 4,
        "n_head_kv": 2,
        "n_embd": 64,
        "num_experts": 8,
        "num_files": 1,
        "chat_template": "{{ messages[0].content }}",
        "description": "line one line [2J two",
        "author": "A. Nother",
        "license": "mit, apache-2.0",
        "url": None,
        "backend": "llama.cpp",
    }
    check_is_model(read_header(path))


def read(write: Callable[..., Path], name: str = "my-model.gguf", **changes: Typed) -> GgufHeader:
    return read_header(write(model_bytes(**changes), name))


def test_info_where_the_file_is_silent_or_says_it_layer_by_layer(
    write: Callable[..., Path],
) -> None:
    header = read(
        write,
        general__name=Typed("string", " \n"),
        llama__attention__head_count_kv=Typed("array", ("int32", [0, 4])),
    )
    info = header.info()
    assert info.name == "my-model"
    assert info.quantization == "Q8_0"  # what most of the numbers are stored as
    assert info.n_head_kv == 4
    assert header.numbers("llama.attention.head_count_kv", 2) == [0, 4]
    assert header.numbers("llama.attention.head_count", 2) == [4, 4]
    with pytest.raises(MalformedHeaderError, match="2 items for 3 layers"):
        header.numbers("llama.attention.head_count_kv", 3)


@pytest.mark.parametrize(
    "value",
    [
        Typed("string", "many"),
        Typed("float32", 2.0),
        Typed("int32", -1),
        Typed("uint64", 2**40),
        Typed("bool", True),
        Typed("array", ("string", ["2"])),
    ],
)
def test_a_number_that_is_none_is_an_error_and_not_a_guess(
    value: Typed, write: Callable[..., Path]
) -> None:
    header = read(write, llama__block_count=value)
    with pytest.raises(MalformedHeaderError, match=r'"llama\.block_count" should be a whole'):
        header.info()


def test_long_values_stay_in_the_file_and_are_refused_once_it_has_changed(
    write: Callable[..., Path],
) -> None:
    template = "x" * (1 << 20) + "é"
    scores = [float(i) for i in range(20_000)]
    path = write(
        model_bytes(
            tokenizer__chat_template=Typed("string", template),
            tokenizer__ggml__scores=Typed("array", ("float32", scores)),
        )
    )
    header = read_header(path)
    text, array = (
        header.metadata["tokenizer.chat_template"],
        header.metadata["tokenizer.ggml.scores"],
    )
    assert isinstance(text, GgufText)
    assert isinstance(array, GgufArray)
    assert header.chat_template is None
    assert text.value() == template
    assert text.value(limit=3) == "xxx"
    assert array.values(5, 8) == [5.0, 6.0, 7.0]
    os.utime(path, ns=(0, 0))
    with pytest.raises(UnreadableFileError, match="has changed"):
        array.values()
    path.unlink()
    assert header.metadata["tokenizer.ggml.tokens"][1] == "a"  # type: ignore[index]  # short: kept


def test_lists_inside_lists(write: Callable[..., Path]) -> None:
    nested: Any = ("array", [("uint8", [1, 2]), ("string", ["a"]), ("array", [("bool", [True])])])
    path = write(gguf_bytes([("n", Typed("array", nested)), ("after", Typed("bool", True))]))
    header = read_header(path)
    array = header.metadata["n"]
    assert isinstance(array, GgufArray)
    assert array.values() == [[1, 2], ["a"], [[True]]]
    assert header.metadata["after"] is True


def test_a_tensor_type_newer_than_this_program_is_left_for_llama_cpp_to_judge(
    write: Callable[..., Path],
) -> None:
    tensors = (*MODEL_TENSORS, Tensor("new.weight", (64, 64), 77, num_bytes=1000))
    header = read_header(write(gguf_bytes(model_entries().items(), tensors)))
    assert (header.tensors[-1].type, header.tensors[-1].size) == ("type 77", None)
    check_is_model(header)


def test_our_tables_hold_all_that_gguf_knows() -> None:
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name != "Q8_1":  # never in a file; gguf has 40 bytes for it, llama.cpp 36
            assert TENSOR_TYPES[kind.value] == (kind.name, block, size)
    assert not TENSOR_TYPES.keys() & REMOVED_TENSOR_TYPES.keys()
    for file_type in gguf.LlamaFileType:
        if file_type.name != "GUESSED":
            name = file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_")
            assert FILE_TYPES[file_type.value] == name.removesuffix("_MOE")


def split(number: int, count: int, tensors: int, *, whole: bool = False, **more: Typed) -> bytes:
    about = {
        "split.no": Typed("uint16", number),
        "split.count": Typed("uint16", count),
        "split.tensors.count": Typed("int32", tensors),
        **more,
    }
    entries = {**model_entries(), **about} if whole else about
    tensor = Tensor(f"blk.{number}.weight", (64, 10), Q8_0, 20 * 34)
    return gguf_bytes(entries.items(), (tensor,))


def test_a_split_model_is_read_whole_from_any_of_its_parts(tmp_path: Path) -> None:
    paths = [tmp_path / f"big-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    for number, path in enumerate(paths):
        path.write_bytes(split(number, 3, 3, whole=number == 0))
    for path in paths:
        header = read_header(path)
        info = header.info()
        assert header.parts == tuple(paths)
        assert info.path == str(paths[0])
        assert (info.num_files, info.num_parameters) == (3, 3 * 640)
        assert info.size_bytes == sum(part.stat().st_size for part in paths)
        assert [tensor.part for tensor in header.tensors] == [0, 1, 2]
        check_is_model(header)
