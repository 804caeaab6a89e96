"""What is found out of templates that are slow, hostile or of no known kind. It starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gguf_widgets.core.engine import template_ways
from gguf_widgets.core.engine.template_messages import Ways
from gguf_widgets.core.engine.template_ways import find_ways
from gguf_widgets.core.errors import ChatTemplateError
from gguf_widgets.core.types import TemplateFacts

Messages = list[dict[str, Any]]


def plain(messages: Messages, **_: Any) -> str:
    return "".join(f"{one['role']}:{one['content']};" for one in messages)


def failing_after(count: int, problem: str, calls: list[Messages]) -> Callable[..., str]:
    def render(messages: Messages, **variables: Any) -> str:
        calls.append(messages)
        if len(calls) > count:
            raise ChatTemplateError("no", problem=problem)
        return plain(messages, **variables)

    return render


@pytest.mark.parametrize("problem", ["time", "memory", "output"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_template_that_takes_too_much_is_not_tried_again(count: int, problem: str) -> None:
    calls: list[Messages] = []
    found = find_ways(failing_after(count, problem, calls), "tools enable_thinking")
    assert len(calls) == count + 1
    assert found == (Ways(), TemplateFacts())  # as most templates are


def test_a_slow_template_is_tried_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(template_ways, "monotonic", lambda: now[0])
    calls: list[Messages] = []

    def slow(messages: Messages, **_: Any) -> str:
        calls.append(messages)
        now[0] += 1.9
        return plain(messages)

    find_ways(slow, "tools enable_thinking thinking reasoning_effort")
    assert len(calls) == 2


@pytest.mark.parametrize("problem", ["refused", "failed", "syntax"])
def test_a_template_that_refuses_everything_is_taken_as_it_is(problem: str) -> None:
    calls: list[Messages] = []
    assert find_ways(failing_after(0, problem, calls), "tools") == (Ways(), TemplateFacts())
    assert len(calls) == 2  # with a text, and with a list of parts


def test_a_template_that_does_something_of_its_own_is_left_alone() -> None:
    assert find_ways(lambda *_, **__: "always this", "tools") == (Ways(), TemplateFacts())


@pytest.mark.parametrize(
    ("tail", "mark"),
    [
        ("<|assistant|><think>\n", "<think>"),
        ("assistant\n<think>\n\n</think>\n\n", None),
        ("<think></think><thinking>", "<thinking>"),
        ("[THINK]", "[THINK]"),
        ("Write your thoughts as <think>thoughts", None),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
    ],
)
def test_a_prompt_that_ends_inside_thoughts_is_noticed(tail: str, mark: str | None) -> None:
    facts = find_ways(lambda messages, **_: plain(messages) + tail, "").facts
    assert facts.thinking_open == mark
    # What stands before the person's words, as in a default system prompt, opens nothing.
    before = find_ways(lambda messages, **_: tail + plain(messages), "").facts
    assert before.thinking_open is None
