"""How calls are written in each family's format, and read out of an answer. 8 seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from support.chat_template_families import FAMILIES, Family
from support.tool_fakes import WritingModel

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.engine.chat_template import ChatTemplate
from gguf_widgets.core.tools import ToolBox
from gguf_widgets.core.tools.asking import ToolModel, ToolStream, format_of
from gguf_widgets.core.tools.call_format import GENERIC, MAX_CALLS, CallFormat, find_format
from gguf_widgets.core.tools.describing import NO_MORE
from gguf_widgets.core.types import FinishReason

BY_NAME = {family.name: family for family in FAMILIES}
BAR, BLANK = chr(0xFF5C), chr(0x2581)  # DeepSeek's own signs
DEEPSEEK = "".join(
    f"<{BAR}{name.replace(' ', BLANK)}{BAR}>" for name in ("tool calls begin", "tool call begin")
)
DEEPSEEK += f"function<{BAR}tool{BLANK}sep{BAR}>"
HERMES = ("<tool_call>\n", "\n</tool_call>", "name", "arguments", False, True)
# Where a template writes calls in a way that can be read back; the others get the generic form.
OWN = {
    "Qwen2.5": HERMES,
    "Qwen3": HERMES,
    "Llama 3.1": ("", "", "name", "parameters", False, False),
    "Llama 3.2": ("", "", "name", "parameters", False, False),
    "Mistral 7B v0.3": ("[TOOL_CALLS] ", "", "name", "arguments", True, False),
    "Mistral Nemo": ("[TOOL_CALLS]", "", "name", "arguments", True, False),
    "Granite 3": ("<|tool_call|>", "", "name", "arguments", True, False),
    "DeepSeek V3": (DEEPSEEK, "", "name", "arguments", False, False),
    "DeepSeek R1": (DEEPSEEK, "", "name", "arguments", False, False),
}
# No mark says that a call begins, or there is no name in it.
NOT_READ = {"GLM-4", "Kimi K2", "gpt-oss (harmony)"}


def weather(city: str, days: int = 1) -> str:
    """Say how the weather will be."""
    return f"{city}: sun for {days} days"


def add(numbers: list[float]) -> float:
    """Add numbers."""
    return sum(numbers)


class Node(BaseModel):
    value: int
    children: list[Node] = []


BOX = ToolBox([weather, add])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_the_format_is_found_in_the_template_of_each_family(family: Family) -> None:
    template = ChatTemplate(family.template, family.bos, family.eos, control_texts=family.control)
    try:
        native = template.facts.native_tools
        form = find_format(template.render, native=native)
        found = (form.opening, form.closing.rstrip(), form.name_key, form.arguments_key)
        assert (*found, form.is_list, form.repeats) == OWN.get(family.name, HERMES)
        assert form.in_prompt is (family.name in OWN)
        assert form.as_text is (family.name in NOT_READ)
        assert native is (family.name in OWN or family.name in NOT_READ)
        # What is found is exactly what the template writes of an earlier call.
        call = {"id": "abcdefghi", "name": "weather", "arguments": {"city": "Bern"}}
        asked = {"role": "user", "content": "How?"}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "sun"}
        if not form.as_text:
            text = template.render([asked, answer, result])
            start = text.rindex(form.opening or '{"name"') + len(form.opening)
            (read,) = form.read(text[start:]) or []
            assert (read.name, read.arguments) == ("weather", {"city": "Bern"})
    finally:
        template.close()


@pytest.fixture
def make() -> Iterator[Callable[..., WritingModel]]:
    made: list[WritingModel] = []

    def one(family: str, *script: str, **options: Any) -> WritingModel:
        known = BY_NAME[family]
        made.append(
            WritingModel(
                *script,
                template=known.template,
                native=known.tools,
                control=known.control,
                **options,
            )
        )
        return made[-1]

    yield one
    for model in made:
        model.close()


def answer(
    model: WritingModel, box: ToolBox = BOX, **sampling: Any
) -> tuple[str, list[tuple[str, dict[str, Any]]], ToolStream]:
    stream = ToolModel(model, box).stream([{"role": "user", "content": "How?"}], **sampling)
    with stream:
        text = "".join(delta.text for delta in stream)
    assert stream.reply is not None
    assert stream.reply.text == text
    return text, [(one.name, one.arguments) for one in stream.tool_calls], stream


ONE = '{"name": "weather", "arguments": {"city": "Bern"}}'
TWO = '{"name": "add", "arguments": {"numbers": [1, 2.5]}}'
BERN, SUM = ("weather", {"city": "Bern"}), ("add", {"numbers": [1, 2.5]})
THOUGHT = "<think>\nI could write <tool_call> here.\n</think>\n\n"
APART = 'weather\n```json\n{"city": "Bern"}'
LLAMA = '{"name": "weather", "parameters": {"city": "Bern"}}'


@pytest.mark.parametrize(
    ("family", "raw", "text", "calls"),
    [
        ("Qwen2.5", f"<tool_call>\n{ONE}\n</tool_call>", "", [BERN]),
        ("Qwen2.5", f"I look.\n<tool_call>\n{ONE}\n</tool_call>\n<tool_call>\n{TWO}\n</tool_call>",
         "I look.\n", [BERN, SUM]),
        # What it makes up about a result that it cannot know is cut off.
        ("Qwen2.5", f"<tool_call>\n{ONE}\n</tool_call>\nIt is sunny in Bern.", "", [BERN]),
        ("Qwen2.5", "No tool is needed.", "No tool is needed.", []),
        ("Qwen3", f"{THOUGHT}<tool_call>\n{ONE}\n</tool_call>", THOUGHT, [BERN]),
        ("ChatML (Yi)", f"<tool_call>\n{ONE}\n</tool_call>", "", [BERN]),
        ("GLM-4", f"Well.\n<tool_call>\n{ONE}\n</tool_call>", "Well.\n", [BERN]),
        ("DeepSeek V3", f"Well.\n{DEEPSEEK}{APART}", "Well.\n", [BERN]),
        ("DeepSeek R1", f"{DEEPSEEK}{APART}\n```", "", [BERN]),
        ("Llama 3.1", LLAMA, "", [BERN]),
        ("Llama 3.1", f'As JSON: {{"name": "x"}} or {LLAMA} it is.',
         f'As JSON: {{"name": "x"}} or {LLAMA} it is.', []),
        ("Mistral 7B v0.3", f"[TOOL_CALLS] [{ONE}, {TWO}]", "", [BERN, SUM]),
        ("Mistral 7B v0.3", f"I look.[TOOL_CALLS] [{ONE}]", "I look.", [BERN]),
        ("Mistral 7B v0.3", "Just words, [1, 2].", "Just words, [1, 2].", []),
        ("Mistral Nemo", f"[TOOL_CALLS][{ONE}]", "", [BERN]),
        ("Granite 3", f"<|tool_call|>[{ONE}]", "", [BERN]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("can_hold", [True, False], ids=["held", "free"])
def test_calls_are_read_out_of_an_answer(
    make: Callable[..., WritingModel],
    family: str,
    raw: str,
    text: str,
    calls: list[tuple[str, dict[str, Any]]],
    can_hold: bool,
) -> None:
    model = make(family, raw, can_hold=can_hold)
    got, found, stream = answer(model)
    assert (got, found) == (text, calls)
    assert all(one.status == "waiting" and len(one.id) == 9 for one in stream.tool_calls)
    assert stream.reply is not None
    assert stream.reply.finish_reason is FinishReason.STOP
    if calls:
        assert stream.reply.usage.num_completion_tokens >= len(text)
        assert stream.reply.usage.num_prompt_tokens == 100
    held = [one["schema"] for one in model.asked if one.get("schema") is not None]
    for one in model.asked:
        if one.get("grammar") is not None:
            assert one["grammar"] == 'root ::= "weather" | "add"'
    assert bool(held) is (can_hold and bool(calls))
    for schema in held:
        jsonschema.Draft202012Validator.check_schema(schema)
    # The tools are in the prompt once: by the template, or in words.
    first = model.asked[0]
    in_words = [m for m in first["messages"] if "<tools>" in m["content"]]
    assert bool(first.get("tools")) is (family in OWN)
    assert len(in_words) == (0 if family in OWN else 1)


def test_beginnings_budgets_stops_and_seeds_hold_for_the_whole_answer(
    make: Callable[..., WritingModel],
) -> None:
    raw = f"Let me see.\n<tool_call>\n{ONE}\n</tool_call>"
    model = make("Qwen2.5", raw)
    text, calls, _ = answer(model, begin_with="Let me ", seed=5, max_tokens=200)
    assert (text, calls) == ("Let me see.\n", [BERN])
    assert {one.get("seed") for one in model.asked} == {5}
    budgets = [one["max_tokens"] for one in model.asked]
    assert budgets[0] == 200
    assert budgets[1] < 200 - len("see.\n")

    # No room for the end of the call: what came is shown as the text that it is.
    model = make("Qwen2.5", raw)
    text, calls, stream = answer(model, max_tokens=40)
    assert calls == []
    assert text.startswith('Let me see.\n<tool_call>\n{"name"')
    assert stream.reply is not None
    assert stream.reply.finish_reason is FinishReason.LENGTH

    model = make("Qwen2.5", raw)
    text, calls, stream = answer(model, stop=("see",))
    assert (text, calls) == ("Let me ", [])
    assert stream.reply is not None
    assert stream.reply.stop_string == "see"

    # A reply that has to follow a schema is no place for calls.
    model = make("Qwen2.5", '{"a": 1}')
    with ToolModel(model, BOX).stream(
        [{"role": "user", "content": "How?"}], schema={"type": "object"}, constrain_begin=False
    ) as stream:
        assert "".join(delta.text for delta in stream) == '{"a": 1}'
    assert "tools" not in model.asked[0]


def test_a_beginning_of_tokens_goes_on_in_a_format_with_a_control_token(
    make: Callable[..., WritingModel],
) -> None:
    model = make("Mistral 7B v0.3", f"I look.[TOOL_CALLS] [{ONE}]")
    text, calls, _ = answer(model, begin_with=model.tokenize("I lo"), logprobs=2)
    assert (text, calls) == ("I look.", [BERN])
    assert model.asked[-1]["begin_with"] == model.tokenize("I look.[TOOL_CALLS] ")


def test_stop_keeps_what_came(make: Callable[..., WritingModel]) -> None:
    model = make("Qwen2.5", f"Let me see.\n<tool_call>\n{ONE}\n</tool_call>")
    with ToolModel(model, BOX).stream([{"role": "user", "content": "How?"}]) as stream:
        deltas = iter(stream)
        first = next(deltas).text
        stream.stop()
        text = first + "".join(delta.text for delta in deltas)
    assert stream.reply is not None
    assert stream.reply.finish_reason is FinishReason.ABORTED
    assert "Let me see.".startswith(text.rstrip("\n")) or text.startswith("Let me see.")
    assert stream.tool_calls == ()


def test_text_that_is_no_call_where_the_model_is_not_held(
    make: Callable[..., WritingModel],
) -> None:
    raw = "<tool_call>\n{'name': broken\n</tool_call>"
    text, calls, _ = answer(make("Qwen2.5", raw, can_hold=False))
    assert calls == []
    assert text.startswith("<tool_call>\n{'name': broken")
    unknown = f"<tool_call>\n{ONE.replace('weather', 'nothing')}\n</tool_call>"
    _, calls, _ = answer(make("Qwen2.5", unknown, can_hold=False))
    assert calls == [("nothing", {"city": "Bern"})]  # whoever runs it says that there is none


def test_after_the_limit_no_tools_are_offered_and_the_model_is_told(
    make: Callable[..., WritingModel],
) -> None:
    line = [
        {"role": "user", "content": "How?"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"id": "abcdefghi", "name": "weather", "arguments": {"city": "Bern"}}]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "sun"},
    ]  # fmt: skip
    for family in ("Qwen2.5", "GLM-4"):
        model = make(family, "", "It is sunny.")
        with ToolModel(model, BOX, may_call=False).stream(line) as stream:
            assert "".join(delta.text for delta in stream) == "It is sunny." or family != "Qwen2.5"
        sent = model.asked[0]["messages"]
        assert "tools" not in model.asked[0]
        assert NO_MORE in sent[-1]["content"]
        assert line[-1]["content"] == "sun"
    # Written as text, the earlier call has the form that the description asks for.
    assert sent[1]["content"] == (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
    )
    assert sent[2]["role"] == "user"


def test_counts_and_shown_prompts_have_the_tools(make: Callable[..., WritingModel]) -> None:
    for family in ("Qwen2.5", "ChatML (Yi)", "DeepSeek V3", "GLM-4", "Llama 3.1"):
        text = ToolModel(make(family), BOX).render([{"role": "user", "content": "How?"}])
        assert "Say how the weather will be." in text, family
        assert "Add numbers." in text
    assert "weather" not in ToolModel(make("Qwen2.5"), ToolBox()).render("How?")


def test_a_model_without_a_template_to_ask_gets_the_generic_form() -> None:
    class Bare:
        name = "bare"
        settings = type("S", (), {"chat_template": None})()

    assert format_of(Bare()) is GENERIC


def test_the_schema_of_all_tools_takes_definitions_along() -> None:
    def total(root: Node) -> int:
        """Add up a tree."""
        return root.value

    form = CallFormat("<c>", "</c>", "fn", "args", is_list=True)
    schema = form.schema(ToolBox([weather, total]))
    validator = jsonschema.Draft202012Validator(schema)
    tree = {"value": 1, "children": [{"value": 2, "children": []}]}
    assert validator.is_valid([{"fn": "total", "args": {"root": tree}}])
    assert validator.is_valid([{"fn": "weather", "args": {"city": "Bern"}}] * MAX_CALLS)
    for wrong in (
        [], [{"fn": "total", "args": {"root": {"children": []}}}], [{"fn": "nothing", "args": {}}],
        [{"fn": "weather", "args": {"city": "Bern"}}] * (MAX_CALLS + 1),
    ):  # fmt: skip
        assert not validator.is_valid(wrong)


def test_reading_calls_never_fails() -> None:
    for text in ("", "x", "[", "{}", "[]", "[1]", '{"name": 1, "arguments": {}}', "[" * 100_000):
        assert GENERIC.read(text) is None
    assert GENERIC.read('{"name": "a"}') is not None
    (call,) = GENERIC.read('{"name": "a", "parameters": {"b": 1}} and more') or []
    assert isinstance(call, ToolCall)
    assert call.arguments == {"b": 1}
    assert len(GENERIC.read(json.dumps([{"name": "a"}] * 50)) or []) == MAX_CALLS
