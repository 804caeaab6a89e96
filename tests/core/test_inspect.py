"""A header as text and as JSON: complete, and safe to print."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.gguf_writer import Typed, gguf_bytes, model_bytes, model_entries

from gguf_widgets.core.details import details
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.inspect import about, describe, to_json


def write(folder: Path, **changes: Typed) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(model_bytes(**changes))
    return path


def test_describe_says_what_a_person_asks_for(tmp_path: Path) -> None:
    text = describe(read_header(write(tmp_path, general__license=Typed("string", "mit"))))
    lines = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line.strip())
    facts = {label.strip(): fact.strip() for label, fact in lines.items()}
    assert facts["Name"] == "Small test model"
    assert facts["Licence"] == "mit"
    assert facts["Parameters"] == "4,416"
    assert facts["Context"] == "2,048 tokens in training"
    assert facts["Chat template"] == "yes (25 characters)"
    assert facts["Can be loaded"] == "yes, as far as the header tells"
    assert facts["Memory needed"].endswith("with a context of 2,048 tokens")
    assert "3 tensors:" in text
    assert "Q8_0" in text


def test_the_same_facts_are_told_wherever_a_model_is_shown(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        llama__expert_count=Typed("uint32", 8),
        llama__block_count=Typed("uint32", 48),
        general__author=Typed("string", "A. Nother"),
    )
    header = read_header(path)
    facts = about(header)
    assert details(path).facts == facts
    text = describe(header)
    for label, fact in facts:
        assert re.search(rf"^{label} +{re.escape(fact)}$", text, re.MULTILINE)
    assert dict(facts)["Parameters"] == "4,416, 8 experts"
    assert dict(facts)["Architecture"] == "llama, 48 layers of 64"


def test_a_hostile_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    evil = Typed("string", "\x1b]0;owned\x07\x1b[2J\nName  Forged\u202e")
    path = write(
        tmp_path,
        general__name=evil,
        general__author=evil,
        general__license=evil,
        general__description=Typed("string", "d" * 100_000 + "\n"),
    )
    text = describe(read_header(path))
    assert text.replace("\n", "").isprintable()
    assert sum(line.startswith("Name ") for line in text.splitlines()) == 1
    assert len(text) < 10_000


def test_json_holds_everything_and_is_json(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        x__nan=Typed("float32", float("nan")),
        x__long=Typed("string", "x" * 20_000),
        x__longer=Typed("string", "x" * 2_000_000),
    )
    data = json.loads(json.dumps(to_json(read_header(path)), allow_nan=False))
    assert data["architecture"] == "llama"
    assert data["refused"] is None
    assert data["metadata"]["x.nan"] == "nan"
    assert data["metadata"]["x.longer"] == {"text_bytes": 2_000_000}
    assert len(data["metadata"]["x.long"]) == 10_001
    assert data["metadata"]["tokenizer.ggml.tokens"] == {"list_of": "string", "length": 4}
    assert [tensor["type"] for tensor in data["tensors"]] == ["F32", "F32", "Q8_0"]
    assert sum(kind["tensors"] for kind in data["tensor_types"]) == 3


@pytest.mark.parametrize("architecture", ["llama", "clip"])
def test_a_file_that_is_no_model_is_described_with_the_reason(
    architecture: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.gguf"
    path.write_bytes(gguf_bytes(model_entries(architecture).items()))
    header = read_header(path)
    assert "Can be loaded" in describe(header)
    assert re.search(r"^Parameters +none$", describe(header), re.MULTILINE)
    assert str(to_json(header)["refused"]) in describe(header)
