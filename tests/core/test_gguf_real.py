"""Real headers in both readers: every entry, every item of every list, every tensor is the same.

The vocabularies of 19 families of models, as llama.cpp's own tests have them (up to 262,144 tokens,
514,906 merges), and files that gguf's own writer makes of every type of value and tensor that it
knows, against what ``gguf.GGUFReader`` reads. Byte order: our reader takes little-endian files only
(llama.cpp reads no others here), so of the other one it is shown that it is told and refused.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from support.gguf_peer import assert_same_as_ggufs_reader
from support.real_vocabularies import NAMES, NotThereError, folder_of_vocabularies

from gguf_widgets.core.errors import BigEndianFileError, VocabularyOnlyError
from gguf_widgets.core.gguf import GgufArray, check_is_model, read_header
from gguf_widgets.core.gguf_tables import ValueType
from gguf_widgets.demo import demo_model_path


@pytest.fixture(scope="session")
def vocabularies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = getattr(request.config, "cache", None)  # it may be switched off
    folder = kept.mkdir("real-vocabularies") if kept else tmp_path_factory.mktemp("vocabularies")
    try:
        return folder_of_vocabularies(folder / "0.3.36")
    except NotThereError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first of them may have to fetch them
@pytest.mark.parametrize("name", NAMES)
def test_a_real_vocabulary_reads_the_same_to_the_last_token(vocabularies: Path, name: str) -> None:
    path = vocabularies / f"ggml-vocab-{name}.gguf"
    lengths = assert_same_as_ggufs_reader(path)
    header = read_header(path)
    num_tokens = lengths["tokenizer.ggml.tokens"]
    assert header.info().n_vocab == num_tokens > 30_000
    assert lengths.get("tokenizer.ggml.token_type", num_tokens) == num_tokens
    with pytest.raises(VocabularyOnlyError):
        check_is_model(header)


def test_the_bundled_model_reads_the_same_to_the_last_item() -> None:
    lengths = assert_same_as_ggufs_reader(demo_model_path())
    assert lengths["tokenizer.ggml.tokens"] > 100


NUMBERS = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1), "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1), "uint64": (0, 2**64 - 1),
    "int64": (-(2**63), 2**63 - 1), "float32": (-1.5, float("inf")), "float64": (1e-300, -1e300),
}  # fmt: skip


def write_everything(path: Path, *, endian: GGUFEndian = GGUFEndian.LITTLE) -> set[str]:
    """Write a file with every type of value and tensor that gguf's writer has; return the types."""
    writer = GGUFWriter(path, "llama", endianess=endian)
    writer.add_name("Everything \u00e4\u6f22\U0001f600")
    for kind, values in NUMBERS.items():
        for number, value in enumerate(values):
            getattr(writer, f"add_{kind}")(f"x.{kind}.{number}", value)
        for length in (1, 2, 5000):  # one of them is read later, where it lies
            writer.add_key_value(
                f"x.list.{kind}.{length}",
                list(itertools.islice(itertools.cycle(values), length)),
                GGUFValueType.ARRAY,
                GGUFValueType[kind.upper()],
            )
    writer.add_bool("x.yes", True)
    writer.add_bool("x.no", False)
    writer.add_array("x.list.bool", [True, False, True])
    for length in (1, 10, 6000):
        texts = [("\u00e4" * (n % 300) if n % 7 else "") + str(n) for n in range(length)]
        writer.add_array(f"x.list.string.{length}", texts)
    writer.add_string("x.long", "\u6f22" * 600_000)
    writer.add_string("x.empty", "")
    seen = set()
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name == "Q8_1":  # never in a file; gguf has 40 bytes for it, llama.cpp 36
            continue
        for number, rows in enumerate([(), (3,), (2, 3), (2, 1, 3)]):
            data = np.zeros((*rows, 2 * size), np.uint8)
            writer.add_tensor(f"t.{kind.name}.{number}", data, raw_dtype=kind)
        assert block >= 1
        seen.add(kind.name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


def test_every_type_that_ggufs_writer_writes_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "everything.gguf"
    tensor_types = write_everything(path)
    assert_same_as_ggufs_reader(path)
    header = read_header(path)
    assert {tensor.type for tensor in header.tensors} == tensor_types
    assert {len(tensor.shape) for tensor in header.tensors} == {1, 2, 3, 4}
    items = {v.item_type for v in header.metadata.values() if isinstance(v, GgufArray)}
    assert items == {kind.name.lower() for kind in ValueType} - {"array"}
    # Version 2 is the same but for its number.
    data = bytearray(path.read_bytes())
    assert data[4:8] == b"\3\0\0\0"
    data[4] = 2
    second = tmp_path / "second.gguf"
    second.write_bytes(data)
    assert_same_as_ggufs_reader(second)


def test_the_other_byte_order_is_told(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    write_everything(path, endian=GGUFEndian.BIG)
    assert GGUFReader(path).byte_order == "S"
    with pytest.raises(BigEndianFileError, match="big-endian machines"):
        read_header(path)
