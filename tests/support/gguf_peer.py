"""A header held against what gguf.GGUFReader answers, to the last item of every list.

Not a test and no fixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType

from gguf_widgets.core.gguf import GgufArray, GgufText, read_header

__all__ = ["assert_same_as_ggufs_reader"]


def answer_of(value: Any) -> Any:
    if isinstance(value, GgufArray):
        return value.values()
    return value.value() if isinstance(value, GgufText) else value


def kind_of(value: Any) -> str:
    """Return a value's type as the file has it, as far as ours tells one from another."""
    if isinstance(value, GgufArray):
        return f"array of {value.item_type}"
    return {bool: "bool", int: "int", float: "float", str: "string", GgufText: "string"}[
        type(value)
    ]


def kind_by_gguf(types: list[GGUFValueType]) -> str:
    if types[0] == GGUFValueType.ARRAY:
        return f"array of {types[1].name.lower()}"
    name = types[0].name.lower()
    return name.rstrip("0123456789").removeprefix("u")


def assert_same_as_ggufs_reader(path: Path) -> dict[str, int]:
    """Compare a whole header; return how long each list is."""
    ours, theirs = read_header(path), GGUFReader(path)
    fields = {key: f for key, f in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.version == theirs.fields["GGUF.version"].contents()
    assert len(ours.metadata) == theirs.fields["GGUF.kv_count"].contents()
    assert len(ours.tensors) == theirs.fields["GGUF.tensor_count"].contents()
    assert list(ours.metadata) == list(fields)
    lengths = {}
    for key, field in fields.items():
        value = ours.metadata[key]
        if kind_of(value) != "array of array":
            assert kind_of(value) == kind_by_gguf(field.types), key
        mine, other = answer_of(value), field.contents()
        if isinstance(value, GgufArray):
            lengths[key] = len(value)
            assert len(mine) == len(value) == len(other), key
            # From the middle and the end, too, as whoever asks for a part gets it.
            middle = len(mine) // 2
            assert value.values(middle, middle + 3) == mine[middle : middle + 3]
            assert not mine or value[-1] == mine[-1]
        assert mine == other, key
    assert ours.alignment == theirs.alignment
    assert [(t.name, t.shape, t.type, t.type_id, t.offset, t.size) for t in ours.tensors] == [
        (
            t.name,
            tuple(t.shape.tolist()),
            t.tensor_type.name,
            int(t.tensor_type),
            int(t.data_offset),
            int(t.n_bytes),
        )
        for t in theirs.tensors
    ]
    return lengths
