"""Every file that cannot be used is refused in its own words, under its own class."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
from support.gguf_writer import (
    MODEL_TENSORS,
    Q8_0,
    Tensor,
    Typed,
    entry,
    gguf_bytes,
    header_bytes,
    model_bytes,
    model_entries,
    text,
)

from gguf_widgets.core import errors
from gguf_widgets.core.gguf import check_is_model, read_header
from tests.core.conftest import without_root

GOOD = model_bytes()


def head(num_tensors: int, num_keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys) + rest


def with_tensor(tensor: Tensor) -> bytes:
    return gguf_bytes(model_entries().items(), (tensor,))


def with_entries(*entries: bytes, tensors: int = 0) -> bytes:
    return head(tensors, len(entries), b"".join(entries))


LIST = struct.pack("<I", 9)
NOT_GGUF = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world", "not a GGUF model file"),
    "a page": (b"<!DOCTYPE html><html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "zip": (b"PK\x03\x04" + bytes(40), "PyTorch"),
    "safetensors": (struct.pack("<Q", 900) + b'{"__metadata__"', "safetensors"),
    "old": (b"tjgg" + bytes(40), "before GGUF"),
}
MALFORMED = {
    "too many entries": (head(0, 2**63), "entries; 65,536 is the most"),
    "too many tensors": (head(2**40, 0), "tensors; 100,000 is the most"),
    "endless name": (head(0, 1, struct.pack("<Q", 2**62) + bytes(20)), "65,535 is the most"),
    "endless text": (
        head(0, 1, text("k") + struct.pack("<IQ", 8, 2**63)),
        "1,073,741,824 is the most",
    ),
    "unknown type": (
        head(0, 1, text("k") + struct.pack("<I", 13) + bytes(9)),
        r"unknown type \(13",
    ),
    "unknown item type": (
        head(0, 1, text("k") + LIST + struct.pack("<IQ", 99, 1) + bytes(9)),
        r"unknown type \(99",
    ),
    "endless list": (
        head(0, 1, text("k") + LIST + struct.pack("<IQ", 4, 2**60)),
        "has 1,152,921,504,606,846,976 items",
    ),
    "list too deep": (
        head(0, 1, text("k") + LIST + struct.pack("<IQ", 9, 1) * 9 + bytes(40)),
        "more than 4 deep",
    ),
    "not yes, not no": (
        head(0, 1, text("k") + struct.pack("<IB", 7, 2)),
        "yes-or-no value in its header is 2",
    ),
    "entry twice": (
        with_entries(entry("k", Typed("bool", True)), entry("k", Typed("bool", True))),
        'the entry "k" twice',
    ),
    "name with control characters": (
        with_entries(*[entry("a\x1b[2J\n", Typed("bool", True))] * 2),
        r'the entry "a \[2J " twice',
    ),
    "alignment 0": (model_bytes(general__alignment=Typed("uint32", 0)), "alignment is 0"),
    "alignment 24": (model_bytes(general__alignment=Typed("uint32", 24)), "alignment is 24"),
    "alignment a text": (model_bytes(general__alignment=Typed("string", "x")), "alignment is str"),
    "alignment huge": (model_bytes(general__alignment=Typed("uint32", 2**31)), "alignment is 2,?1"),
    "tensor twice": (gguf_bytes([], [Tensor("t"), Tensor("t")]), 'the tensor "t" twice'),
    "five dimensions": (with_tensor(Tensor("t", (1,) * 5)), "5 dimensions; 4 is the most"),
    "impossible shape": (
        with_tensor(Tensor("t", (2**32, 2**32), num_bytes=0)),
        "impossible shape",
    ),
    "unknown tensor type": (with_tensor(Tensor("t", (4,), 2**20)), "number format"),
    "half a block": (with_tensor(Tensor("t", (33,), Q8_0)), "rows of 33 numbers, and Q8_0"),
    "off its alignment": (with_tensor(Tensor("t", offset=8)), "begins at byte 8"),
    "one over another": (gguf_bytes([], [Tensor("a", (64,)), Tensor("b", offset=32)]), "lies over"),
}
OTHER = {
    "version 1": (head(0, 0, version=1), errors.UnsupportedVersionError, "version 1, a format"),
    "version 4": (head(0, 0, version=4), errors.UnsupportedVersionError, "version 4; this program"),
    "version 0": (head(0, 0, version=0), errors.UnsupportedVersionError, "version 0; this program"),
    "big-endian": (
        b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(99),
        errors.BigEndianFileError,
        "big-endian",
    ),
    "magic only": (b"GGUF", errors.TruncatedFileError, "at least 4 bytes of it are missing"),
    "half the magic": (b"GG", errors.TruncatedFileError, "cut short"),
    "half the entries": (GOOD[:200], errors.TruncatedFileError, "inside its own header"),
    "half a vocabulary": (
        with_entries(entry("k", Typed("array", ("string", ["abc"] * 9000))))[:50_000],
        errors.TruncatedFileError,
        "cut short",
    ),
}
CASES = {
    **{name: (data, errors.NotGgufError, match) for name, (data, match) in NOT_GGUF.items()},
    **{
        name: (data, errors.MalformedHeaderError, match)
        for name, (data, match) in MALFORMED.items()
    },
    **OTHER,
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_refused_in_its_own_words(case: str, tmp_path: Path) -> None:
    data, kind, match = CASES[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(errors.ModelFileError, match=match) as caught:
        read_header(path)
    assert type(caught.value) is kind
    assert "bad.gguf" in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.details["path"] == str(path)


def test_a_download_that_stopped_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    header, num_bytes = header_bytes(
        model_entries().items(), [Tensor("t", (1_000_000,)), *MODEL_TENSORS]
    )
    start = -(-len(header) // 32) * 32
    path.write_bytes(header.ljust(start + 1_000_000, b"\0"))
    with pytest.raises(errors.TruncatedFileError, match=r"3 MB of its 4 MB are missing") as caught:
        read_header(path)
    assert caught.value.details["missing_bytes"] == num_bytes - 1_000_000
    assert caught.value.details["expected_bytes"] == start + num_bytes
    with path.open("ab") as file:  # the padding behind the last tensor is not needed
        file.truncate(start + num_bytes)
    assert read_header(path).size_bytes == start + num_bytes


def test_things_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.NotAFileError, match=r"is a folder. Choose a model file"):
        read_header(tmp_path)
    with pytest.raises(errors.ModelNotFoundError, match=r'There is no file "x.gguf" in'):
        read_header(tmp_path / "x.gguf")
    with pytest.raises(errors.ModelNotFoundError, match="There is no file"):
        read_header("zero\0byte.gguf")
    with pytest.raises(errors.ModelFileError, match="too long"):
        read_header(tmp_path / ("n" * 5000))
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    with pytest.raises(errors.UnreadableFileError, match="could not be read"):
        read_header(tmp_path / "loop.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(errors.NotAFileError, match="not a plain file"):  # and no waiting
        read_header(tmp_path / "pipe.gguf")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's whole path may be too long
        server.bind("sock.gguf")
        with pytest.raises(errors.NotAFileError, match="not a plain file"):
            read_header("sock.gguf")
    with pytest.raises(errors.UnreadableFileError, match="not valid UTF-8"):
        read_header(tmp_path / os.fsdecode(b"\xff.gguf"))


def test_a_file_without_read_permission(open_folder: Path) -> None:
    path = open_folder / "secret.gguf"
    path.write_bytes(GOOD)
    read_header(path)
    path.chmod(0)
    with (
        without_root(),
        pytest.raises(errors.UnreadableFileError, match=r'no permission to read "secret.gguf"'),
    ):
        read_header(path)


def test_a_home_folder_of_nobody_is_a_name_like_any_other() -> None:
    with pytest.raises(errors.ModelNotFoundError, match="There is no file"):
        read_header("~no-such-user/model.gguf")


NO_MODEL = {
    "vocabulary": (
        gguf_bytes(model_entries().items()),
        errors.VocabularyOnlyError,
        "a vocabulary only",
    ),
    "clip": (
        gguf_bytes(model_entries("clip").items(), MODEL_TENSORS),
        errors.ProjectorFileError,
        "mmproj",
    ),
    "mmproj": (
        model_bytes(general__type=Typed("string", "mmproj")),
        errors.ProjectorFileError,
        "mmproj",
    ),
    "lora": (
        model_bytes(general__type=Typed("string", "adapter")),
        errors.NotAModelError,
        "adapter",
    ),
    "imatrix": (
        model_bytes(general__type=Typed("string", "imatrix")),
        errors.NotAModelError,
        "importance matrix",
    ),
    "control vector": (
        gguf_bytes(model_entries("controlvector").items(), MODEL_TENSORS),
        errors.NotAModelError,
        "control vector",
    ),
    "nameless": (
        gguf_bytes([], MODEL_TENSORS),
        errors.NotAModelError,
        "general.architecture is missing",
    ),
    "retired format": (
        with_tensor(Tensor("t", (32,), 31, num_bytes=18)),
        errors.NotAModelError,
        "Q4_0_4_4, which llama.cpp has given up. Get the same model as Q4_0",
    ),
    "no context": (
        model_bytes(llama__context_length=Typed("uint32", 0)),
        errors.MalformedHeaderError,
        "how long its context is",
    ),
    "too many layers": (
        model_bytes(llama__block_count=Typed("uint32", 2**31 - 1)),
        errors.MalformedHeaderError,
        "2,147,483,647 layers",
    ),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_a_sound_file_that_is_no_model_is_told_apart(case: str, tmp_path: Path) -> None:
    data, kind, match = NO_MODEL[case]
    path = tmp_path / "other.gguf"
    path.write_bytes(data)
    header = read_header(path)
    with pytest.raises(errors.ModelFileError, match=match) as caught:
        check_is_model(header)
    assert type(caught.value) is kind
    assert "other.gguf" in caught.value.message


def part(number: int, count: int, tensors: int, name: str = "t") -> bytes:
    about = {
        "split.no": Typed("uint16", number),
        "split.count": Typed("uint16", count),
        "split.tensors.count": Typed("int32", tensors),
    }
    return gguf_bytes({**model_entries(), **about}.items(), (Tensor(f"{name}{number}"),))


def test_split_models_that_do_not_belong_together(tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    first = put("a-00001-of-00002.gguf", part(0, 2, 2))
    with pytest.raises(errors.SplitFileError, match='1 of them is not in its folder: "a-00002-of'):
        read_header(first)
    second = put("a-00002-of-00002.gguf", part(0, 2, 2))
    with pytest.raises(
        errors.SplitFileError, match=r"should be part 2 of 2, but .* is part 1 of 2"
    ):
        read_header(second)
    put(second.name, part(1, 2, 3))
    put(first.name, part(0, 2, 3))
    with pytest.raises(errors.SplitFileError, match="hold 2 tensors together and should hold 3"):
        read_header(first)
    put(first.name, part(0, 2, 2))
    put(second.name, part(1, 2, 2).replace(b"t1", b"t0"))
    with pytest.raises(errors.SplitFileError, match="hold the same tensor"):
        read_header(first)
    put(second.name, b"nonsense")
    with pytest.raises(errors.NotGgufError, match="a-00002-of-00002"):
        read_header(first)
    renamed = put("renamed.gguf", part(1, 2, 2))
    with pytest.raises(errors.SplitFileError, match=r"one of the 2 parts .* name does not say"):
        read_header(renamed)
    plain = put("b-00001-of-00002.gguf", GOOD)
    with pytest.raises(errors.SplitFileError, match="nothing inside says so"):
        read_header(plain)
    many = put("c-00001-of-99999.gguf", part(0, 65535, 2))
    with pytest.raises(errors.SplitFileError, match="1,000 is the most"):
        read_header(many)
    alone = put("d-00001-of-00001.gguf", part(0, 1, 1))
    assert read_header(alone).info().name == "Small test model"
