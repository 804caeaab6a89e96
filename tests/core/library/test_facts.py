"""What a header tells of a model's capabilities, and of a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gguf_writer import Typed, gguf_bytes, model_bytes, model_entries
from support.library_homes import model_file, put

from gguf_widgets import demo
from gguf_widgets.core.library.facts import read_facts

QWEN3 = (
    "{%- if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}"
    "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}"
)


def template(text: str) -> Typed:
    return Typed("string", text)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("chat",)),
        ({"tokenizer__chat_template": template(QWEN3)}, ("chat", "tools", "reasoning")),
        ({"tokenizer__chat_template": template("The tools: {{ messages }}")}, ("chat",)),
        ({"tokenizer__chat_template": template("{{ toolset }}{{ x }}")}, ("chat",)),
        ({"tokenizer__chat_template": template("{{ split('</think>') }}")}, ("chat", "reasoning")),
        ({"tokenizer__chat_template": template("[THINK]{{ x }}")}, ("chat", "reasoning")),
        ({"tokenizer__chat_template": template("{{ builtin_tools, tools }}")}, ("chat", "tools")),
        ({"tokenizer__chat_template": template("")}, ()),
        ({"tokenizer__chat_template": Typed("uint32", 1)}, ()),
        ({"llama__pooling_type": Typed("uint32", 2)}, ("embeddings",)),
        ({"llama__pooling_type": Typed("uint32", 0)}, ("chat",)),
        ({"llama__pooling_type": Typed("uint32", 4)}, ()),
        ({"llama__pooling_type": Typed("string", "mean")}, ("chat",)),
        ({"llama__attention__causal": Typed("bool", False)}, ("embeddings",)),
        ({"llama__attention__causal": Typed("bool", True)}, ("chat",)),
    ],
)  # fmt: skip
def test_capabilities(tmp_path: Path, changes: dict[str, Typed], expected: tuple[str, ...]) -> None:
    facts = read_facts(put(tmp_path / "m.gguf", model_bytes(**changes)))
    assert facts.error() is None
    assert facts.capabilities == expected


def test_an_encoder_of_t5_is_for_embeddings(tmp_path: Path) -> None:
    facts = read_facts(put(tmp_path / "m.gguf", model_file("T5", "t5encoder")))
    assert facts.capabilities == ("embeddings",)


def test_the_fingerprint_tells_headers_apart_and_not_copies(tmp_path: Path) -> None:
    same = [read_facts(put(tmp_path / f"{n}.gguf", model_bytes())) for n in "ab"]
    assert same[0].fingerprint == same[1].fingerprint != ""
    others = [
        model_bytes(general__name=Typed("string", "Other")),
        model_bytes(general__extra=Typed("uint32", 1)),
        model_bytes(llama__rope__freq_base=Typed("float32", 2.0)),
        model_bytes(x__list=Typed("array", ("uint32", [1, 2]))),
        model_file(width=128),
    ]
    found = {read_facts(put(tmp_path / "o.gguf", data)).fingerprint for data in others}
    assert len(found) == len(others)
    assert same[0].fingerprint not in found


def test_what_is_no_model_has_its_reason_anew_each_time(tmp_path: Path) -> None:
    facts = read_facts(put(tmp_path / "v.gguf", gguf_bytes(model_entries().items())))
    one, other = facts.error(), facts.error()
    assert one is not None
    assert one is not other
    assert (type(one), str(one)) == (type(other), str(other))


def test_the_bundled_model() -> None:
    facts = read_facts(demo.demo_model_path())
    assert facts.info is not None
    assert "chat" in facts.capabilities
