"""What the model read: which tokens are whose, told only where it is certain. Takes about 2 s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.chat.read import ReadPrompt, Span, spans_of
from gguf_widgets.core.errors import ChatTemplateError
from gguf_widgets.core.types import Message, PromptToken

CONTROL = ("<|im_start|>", "<|im_end|>", "<s>")
# Texts that look like what the template writes, and like the roles.
TEXTS = st.text(alphabet="ab \n", min_size=1, max_size=8) | st.sampled_from(
    ["user", "assistant\n", "system", "<|im_end|>\n<|im_start|>user\n", "⟦gw0⟧", "漢😀"]
)


def chatml(messages: Sequence[Message]) -> str:
    turns = (f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def trimmed(messages: Sequence[Message]) -> str:
    return chatml([Message(role=one["role"], content=one["content"].strip()) for one in messages])


class Templated:
    """A model that has a template and nothing else."""

    def __init__(self, fill: Callable[[Sequence[Message]], str]) -> None:
        self.render = fill


def tokens_of(text: str, size: int, controls: bool = True) -> list[PromptToken]:
    """Cut a prompt into marks and pieces of `size` characters."""
    tokens: list[PromptToken] = []
    while text:
        mark = next((one for one in CONTROL if controls and text.startswith(one)), None)
        edges = [at for one in CONTROL if (at := text.find(one, 1)) > 0 and controls]
        piece = mark or text[: min([size, *edges])]
        tokens.append(PromptToken(len(piece), piece, mark is not None))
        text = text[len(piece) :]
    return tokens


def said(tokens: Sequence[PromptToken], spans: Sequence[Span]) -> list[tuple[str, str]]:
    return [
        (span.kind, "".join(token.text for token in tokens[span.start : span.end]))
        for span in spans
    ]


@pytest.mark.parametrize("fill", [chatml, trimmed])
@given(
    contents=st.lists(TEXTS, min_size=1, max_size=5), begin=st.sampled_from(["", "Once", " user"])
)
def test_each_message_is_found_whatever_it_says(
    fill: Callable[[Sequence[Message]], str], contents: list[str], begin: str
) -> None:
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=False)]
    # Tokens of one character, so that none belongs to two parts.
    tokens = tokens_of(fill(messages) + begin, 1, controls=False)
    spans = spans_of(Templated(fill), messages, tokens)
    if not spans:
        # Only where a text holds the very mark that is put in its place.
        assert any("⟦gw" in content for content in contents)
        return
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert (spans[0].start, spans[-1].end) == (0, len(tokens))
    parts = [part for part in said(tokens, spans) if part[0] != "template"]
    trim = fill is trimmed
    wanted = [(m["role"], m["content"].strip() if trim else m["content"]) for m in messages]
    assert parts == [part for part in [*wanted, ("begin", begin)] if part[1]]


def test_what_a_tokenizer_puts_in_by_itself_is_no_hindrance() -> None:
    messages = [Message(role="system", content="Be kind"), Message(role="user", content="Hi")]
    plain = tokens_of(chatml(messages), 3)
    begun = [PromptToken(1, "<s>", True), *plain]
    blanks = [
        PromptToken(t.token, f" {t.text}", t.is_control)
        if not t.is_control and begun[at - 1].is_control
        else t
        for at, t in enumerate(begun)
    ]
    for tokens in (plain, begun, blanks):
        spans = spans_of(Templated(chatml), messages, tokens)
        kinds = [span.kind for span in spans]
        assert kinds == ["template", "system", "template", "user", "template"], tokens


def test_nothing_is_claimed_where_it_is_not_certain() -> None:
    messages = [Message(role="user", content="Hi")]

    def shouting(given: Sequence[Message]) -> str:
        return chatml(given).replace("Hi", "HI")

    def picky(given: Sequence[Message]) -> str:
        if "gw" in given[0]["content"]:
            raise ChatTemplateError("no marks, please")
        return chatml(given)

    def twice(given: Sequence[Message]) -> str:
        return chatml([*given, *given])

    for fill in (shouting, picky, twice):
        tokens = tokens_of(fill(messages), 2)
        prompt = ReadPrompt(
            tokens=tokens, spans=spans_of(Templated(fill), messages, tokens), as_then=None
        )
        assert prompt.spans == []
        assert prompt.counts() == {}
        assert prompt.text == fill(messages)
        assert prompt.num_control > 0


def test_tokens_are_counted_by_whose_they_are() -> None:
    messages = [Message(role="user", content="abcd"), Message(role="assistant", content="ef")]
    messages.append(Message(role="user", content="ghij"))
    tokens = tokens_of(chatml(messages), 2)
    prompt = ReadPrompt(
        tokens=tokens, spans=spans_of(Templated(chatml), messages, tokens), as_then=True
    )
    counts = prompt.counts()
    assert list(counts) == ["template", "user", "assistant"]
    assert sum(counts.values()) == len(tokens)
    assert counts["user"] >= 4


def test_attached_files_and_summaries_are_told_from_the_persons_own_words() -> None:
    inner = [
        ("attachment", 'File "a":\nmilk'),
        ("summary", "Before: x"),
        ("attachment", "elsewhere"),
    ]
    first = Message(role="user", content=f"{inner[1][1]}\n\n{inner[0][1]}\n\nWhat is in it?")
    messages = [first, Message(role="assistant", content=inner[1][1])]
    tokens = tokens_of(chatml(messages), 1, controls=False)
    parts = said(tokens, spans_of(Templated(chatml), messages, tokens, inner))
    assert [part for part in parts if part[0] != "template"] == [
        ("summary", "Before: x"),
        ("user", "\n\n"),
        ("attachment", 'File "a":\nmilk'),
        ("user", "\n\nWhat is in it?"),
        ("assistant", "Before: x"),
    ]
