"""What is not the same in two records, in words.

Promises: pure functions of plain values; a thing that was not recorded in both is not compared;
what changes no more than the last digits of the probabilities is marked as that. The records may
come from anywhere: their texts are made safe to show. Leaves to others: what is recorded
(`program`, `model_file`), comparing texts and tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.record.model_file import NUMBERS
from gguf_widgets.core.settings import SamplingSettings

__all__ = [
    "DIGITS",
    "Difference",
    "changed",
    "differ",
    "digests",
    "in_loading",
    "in_machine",
    "in_model",
    "in_program",
    "in_sampling",
    "mapping",
    "plain",
    "quoted",
]

DIGITS = (
    "This changes the last digits of the probabilities only; where two tokens are almost equally"
    " likely, that is enough for another one."
)
"""What is said where every difference is of that kind."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded thing that was not the same both times; as text, a sentence.

    Attributes
    ----------
    name : str
        The key: "model", "template", "temperature", "n_threads", ...
    words : str
        A sentence that says what was and what is.
    only_digits : bool
        Whether it changes no more than the last digits of the probabilities.
    """

    name: str
    words: str
    only_digits: bool = False

    def __str__(self) -> str:
        return self.words


def in_sampling(
    then: SamplingSettings, now: SamplingSettings, *, leave_out: Iterable[str] = ()
) -> list[Difference]:
    """Name the sampling settings that are not the same."""
    before, after, passed = then.to_dict(), now.to_dict(), set(leave_out)
    return [
        changed(name, value, after[name])
        for name, value in before.items()
        if name not in passed and value != after[name]
    ]


def in_model(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Say whether the model was another one.

    Parameters
    ----------
    a, b : dict
        ``name``, ``quantization``, ``size_bytes``, ``architecture``, ``backend``, and ``model``: a
        digest of the file, which decides where it is known.
    """
    same_file = a.get("model") == b.get("model") if a.get("model") and b.get("model") else None
    names = ("name", "quantization", "size_bytes", "architecture", "backend")
    others = [name for name in names if differ(a.get(name), b.get(name))]
    if same_file or (same_file is None and not others):
        return []
    if others:
        words = f"The model was {_model_words(a)} and is {_model_words(b)} now."
    else:
        words = f"The file of the model {_model_words(b)} holds other numbers than then."
    return [Difference(name="model", words=words)]


def in_program(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Name what differs of `program.about_program`'s versions."""
    names = {"package": "The version of gguf-widgets", "engine": "llama-cpp-python"}
    found = [
        Difference(name=name, words=f"{label} was {plain(a[name])} and is {plain(b[name])} now.")
        for name, label in names.items()
        if differ(a.get(name), b.get(name))
    ]
    if not found:
        found += digests(a, b, "engine_files", "llama.cpp was built otherwise.", digits=True)
    return found


def in_loading(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Name what differs of how the model was loaded: `NUMBERS`, adapters, the image companion."""
    before, after = mapping(a.get("load")), mapping(b.get("load"))
    found = [
        changed(name, before[name], after[name], digits=name not in ("type_k", "type_v"))
        for name in NUMBERS
        if differ(before.get(name), after.get(name))
    ]
    if differ(a.get("lora"), b.get("lora")):
        words = "The adapters (LoRA) were others, or had another weight."
        found.append(Difference(name="lora", words=words))
    has_images = a.get("num_images") and b.get("num_images")
    if has_images and "mmproj" in a and "mmproj" in b and a["mmproj"] != b["mmproj"]:
        found.append(Difference(name="mmproj", words="The image companion was another one."))
    return found


def in_machine(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Name what differs of the machine: processor, operating system, graphics cards."""
    found = []
    if differ(a.get("processor"), b.get("processor")):
        words = f"The processor was {plain(a['processor'])} and is {plain(b['processor'])} now."
        found.append(Difference(name="processor", words=words, only_digits=True))
    if differ(a.get("system"), b.get("system")):
        words = f"The system was {plain(a['system'])} and is {plain(b['system'])} now."
        found.append(Difference(name="system_kind", words=words, only_digits=True))
    if differ(a.get("cards"), b.get("cards")):
        words = f"Graphics cards: {_cards(a['cards'])} then, {_cards(b['cards'])} now."
        found.append(Difference(name="cards", words=words, only_digits=True))
    return found


def digests(
    a: Mapping[str, Any], b: Mapping[str, Any], name: str, words: str, *, digits: bool = False
) -> list[Difference]:
    """Return one difference if both have this key and its values differ."""
    if not differ(a.get(name), b.get(name)):
        return []
    return [Difference(name=name, words=words, only_digits=digits)]


def changed(name: str, before: Any, after: Any, *, digits: bool = False) -> Difference:
    """Return the difference of a setting that has a name."""
    words = f"{name} was {plain(before)} and is {plain(after)} now."
    return Difference(name=name, words=words, only_digits=digits)


def differ(before: Any, after: Any) -> bool:
    """Whether both are known and not the same."""
    return before is not None and after is not None and before != after


def mapping(value: Any) -> dict[str, Any]:
    """Return a value that should be a dict; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def plain(value: Any) -> str:
    """Return a value for a sentence."""
    return plain_text(value if isinstance(value, str) else repr(value))


def quoted(text: str | None) -> str:
    """Return a text for a sentence, in quotes."""
    return f"“{plain_text(text, 60)}”" if text else "empty"


def _model_words(facts: Mapping[str, Any]) -> str:
    details = [str(facts.get("quantization") or "")]
    size = facts.get("size_bytes")
    if isinstance(size, int) and size:
        details.append(format_bytes(size))
    if facts.get("backend") == "scripted":
        details.append("demo mode")
    told = ", ".join(plain_text(one) for one in details if one)
    return f"“{plain_text(facts.get('name') or 'unknown')}”" + (f" ({told})" if told else "")


def _cards(cards: Any) -> str:
    names = [str(mapping(one).get("description") or mapping(one).get("name")) for one in cards]
    return ", ".join(plain_text(name, 40) for name in names[:8]) or "none"
