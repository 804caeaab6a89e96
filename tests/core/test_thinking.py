"""What a model thought and what it answered, by the marks around it; the same in pieces."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core import thinking
from gguf_widgets.core.thinking import ThinkingSplitter, split_thinking, strip_thinking

# The forms that the templates of these families use.
FORMS = {
    "deepseek, qwen": "<think>\nHm.\n</think>\n\nYes.",
    "on one line": "<think>Hm.</think>Yes.",
    "thinking": "<thinking>\nHm.\n</thinking>\nYes.",
    "reasoning": "<reasoning>Hm.</reasoning>\nYes.",
    "seed-oss": "<seed:think>Hm.</seed:think>Yes.",
    "magistral": "[THINK]Hm.[/THINK]Yes.",
    "kimi": "◁think▷Hm.◁/think▷Yes.",
    "command a": "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
    "sky-t1": "<|begin_of_thought|>\nHm.\n<|end_of_thought|>\n\n<|begin_of_solution|>\nYes.\n"
    "<|end_of_solution|>",
    "hunyuan": "<think>\nHm.\n</think>\n<answer>\nYes.\n</answer>",
    "gpt-oss": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
    "<|message|>Yes.<|return|>",
    "gpt-oss without control tokens": "analysisHm.assistantfinalYes.",
    "opened by the template": "Hm.\n</think>\n\nYes.",
    "white space before": "\n\n  <think>\nHm.</think>\nYes.",
}


def parts(text: str, *, opened: bool = False) -> list[tuple[bool, str]]:
    return [(p.is_thinking, p.text.strip()) for p in split_thinking(text, opened=opened)]


def grown(pieces: list[str], *, opened: bool = False) -> ThinkingSplitter:
    splitter = ThinkingSplitter(opened=opened)
    for piece in pieces:
        splitter.feed(piece)
    splitter.finish()
    return splitter


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_that_templates_use(form: str) -> None:
    text = FORMS[form]
    assert parts(text) == [(True, "Hm."), (False, "Yes.")]
    assert strip_thinking(text) == "Yes."
    # Letter by letter, nothing of a mark is ever passed on.
    splitter = ThinkingSplitter()
    for letter in text:
        splitter.feed(letter)
        for part in splitter.sections():
            assert not set("<>[]|◁▷") & set(part.text)
    splitter.finish()
    assert [(p.is_thinking, p.text.strip()) for p in splitter.sections() if p.text.strip()] == [
        (True, "Hm."),
        (False, "Yes."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "No thinking here.",
        "The `<think>` mark begins it, `</think>` ends it.",
        "Write <think> before it and </think> after it.",
        "```\n<think>\nx\n</think>\n```\nSo it looks.",
        "~~~ xml\n</think>\n~~~",
        "    <thin is not a mark\n\n<thinker>",
        "<thi",
        "analysis of the data",
        "a < b\n<answer>42</answer>",
        "",
        "\n",
    ],
)
def test_what_is_no_thinking_stays_as_it_is(text: str) -> None:
    assert strip_thinking(text) == text
    assert not any(p.is_thinking for p in split_thinking(text))
    assert "".join(p.text for p in grown(list(text)).sections()) == text


def test_where_marks_count() -> None:
    assert parts("Hm.", opened=True) == [(True, "Hm.")]
    assert parts("<think>\nHm.</think>Yes.", opened=True) == [(True, "Hm."), (False, "Yes.")]
    assert parts("Hm</think>Yes. </think>") == [(False, "Hm</think>Yes. </think>")]
    two = "<think>a</think>One.\n<think>\nb\n</think>Two."
    assert parts(two) == [(True, "a"), (False, "One."), (True, "b"), (False, "Two.")]
    assert strip_thinking(two) == "One.\n\nTwo."
    # In thinking: code may hold the mark; code that never ends does not keep the answer.
    inside = "<think>so:\n```\n</think>\n```\nok `</think>` </think>Yes."
    assert parts(inside)[1] == (False, "Yes.")
    sloppy = "<think>so:\n```\nx = 1\n</think>\nYes."
    assert parts(sloppy) == [(True, "so:\n```\nx = 1"), (False, "Yes.")]
    assert grown(list(sloppy)).sections() == split_thinking(sloppy)
    assert not split_thinking("<think>cut o")[0].is_closed
    assert strip_thinking("<think>cut o") == ""


MARKS = st.sampled_from(
    [
        *("<think>", "</think>", "[THINK]", "[/THINK]", "<answer>", "</answer>", "◁think▷", "<"),
        *("◁/think▷", "```\n", "\n```\n", "~~~", "`", "\n", "\n\n", " ", "a", "word ", "analysis"),
        *("B", "assistantfinal", "<|channel|>analysis<|message|>", "<|end|>", "<|start|>", "[/TH"),
        *("<|channel|>final<|message|>", "</th", "ink>", "<thin", "</seed:think>", "    "),
    ]
)


@given(st.lists(MARKS, max_size=14), st.booleans())
@settings(max_examples=500, deadline=None)
def test_in_pieces_a_text_is_split_as_the_whole_and_nothing_is_lost(
    marks: list[str], opened: bool
) -> None:
    text = "".join(marks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thinking, "DULL_CHARS", 0)  # so that lines are passed over here, too
        whole = grown([text], opened=opened)
    by_letter = grown(list(text), opened=opened)
    assert by_letter.sections() == whole.sections()
    assert grown(marks, opened=opened).sections() == whole.sections()
    # Apart from the marks, everything is in the sections, in order.
    rest = iter(text)
    assert all(letter in rest for part in whole.sections() for letter in part.text)


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 30_000,
        "<think>\n</think>\n" * 20_000,
        "</think>\n" * 30_000,
        "<" * 300_000,
        " " * 300_000,
        "<think>" + "x" * 500_000,
        "<think>" + "</thin" * 60_000,
        "```\n" * 60_000,
        "`" * 300_000,
    ],
    ids=lambda text: text[:18],
)
def test_texts_made_to_be_slow_are_quick(text: str) -> None:
    def cost(text: str) -> float:
        splitter = ThinkingSplitter()
        begun = time.process_time()
        for at in range(0, len(text), 20):
            splitter.feed(text[at : at + 20])
            splitter.sections(thinking.MAX_SECTIONS)
        splitter.finish()
        return time.process_time() - begun

    part = text[: len(text) // 4]
    cost(part)
    assert cost(text) < 12 * cost(part) + 0.5
