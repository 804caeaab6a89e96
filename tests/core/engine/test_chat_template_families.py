"""Rendered prompts of known model families, against Hugging Face's own rendering.

The templates are those of `support.chat_template_families`; the reference is `transformers`, the
function behind `apply_chat_template`. About 15 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from jinja2 import TemplateError
from support.chat_template_families import FAMILIES, Family

from gguf_widgets.core.engine.chat_template import ChatTemplate
from gguf_widgets.core.errors import ChatTemplateError

# By name: mypy would read the whole package. On import it says that there is no PyTorch; it needs
# none for this.
chat_template_utils = import_module("transformers.utils.chat_template_utils")

Messages = list[dict[str, Any]]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <here & now>, for a town such as Zürich.",
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "the town's name"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["town"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def _call(number: int, town: str) -> dict[str, Any]:
    arguments = {"town": town, "days": [1, 2], "unit": "C"}
    return {"id": f"call{number:05}", "name": "weather", "arguments": arguments}


def _said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _result(number: int, content: str) -> dict[str, Any]:
    return _said("tool", content, tool_call_id=f"call{number:05}", name="weather")


TALKS: dict[str, Messages] = {
    "one question": [_said("user", "Hi")],
    "a system prompt": [_said("system", "Be brief."), _said("user", "Hi")],
    "an empty system prompt": [_said("system", ""), _said("user", "Hi")],
    "several turns": [
        _said("system", "Be <b>brief</b> & 'kind' \"now\"."),
        _said("user", "  Hi there\n"),
        _said("assistant", "\nHello!\n\nWhat now?  "),
        _said("user", "Count: {{ 1 + 1 }} {% raw %}"),
        _said("assistant", "2"),
        _said("user", "Bye"),
    ],
    "unicode": [
        _said("user", "Grüße 👩‍👩‍👧 e\u0301 مرحبا \u200f日本\u2028\r\n\t\0x"),
        _said("assistant", "\u00a0ünïcödé \U0001f642"),
        _said("user", "\ufeff…"),
    ],
    "an answer last": [_said("user", "Hi"), _said("assistant", "Hello!")],
    "thoughts in an answer": [
        _said("user", "Hi"),
        _said("assistant", "<think>\nThey greet.\n</think>\n\nHello!"),
        _said("user", "Bye"),
    ],
    "thoughts beside an answer": [
        _said("user", "Hi"),
        _said("assistant", "Hello!", reasoning_content="They greet."),
        _said("user", "Bye"),
    ],
}

TOOL_TALKS: dict[str, Messages] = {
    "tools": [_said("system", "Be brief."), _said("user", "Hi")],
    "tools without a system prompt": [_said("user", "Hi")],
    "a call": [
        _said("user", "The weather?"),
        _said("assistant", "", tool_calls=[_call(1, 'Bad "Ems" <1>')]),
        _result(1, '{"sky": "clear"}'),
    ],
    "a call, and on": [
        _said("user", "The weather?"),
        _said("assistant", "", tool_calls=[_call(1, "Ems")]),
        _result(1, "clear"),
        _said("assistant", "It is clear."),
        _said("user", "And in Köln?"),
    ],
    "thoughts before a call": [
        _said("user", "The weather?"),
        _said("assistant", "", tool_calls=[_call(1, "Ems")], reasoning_content="I need it."),
        _result(1, "clear"),
    ],
}

TWO_CALLS = [
    _said("user", "The weather in Ems and Köln?"),
    _said("assistant", "", tool_calls=[_call(1, "Ems"), _call(2, "Köln")]),
    _result(1, "clear"),
    _result(2, "rain"),
]


def reference(
    family: Family,
    messages: Messages,
    gen: bool,
    *,
    go_on: bool = False,
    tools: Any = None,
    variables: dict[Any, Any] | None = None,
) -> str:
    """Return what Hugging Face renders; `jinja2.TemplateError` if the template refuses."""
    (text,), _ = chat_template_utils.render_jinja_template(
        [[_as_documented(family, message) for message in messages]],
        chat_template=family.template,
        tools=tools,
        add_generation_prompt=gen,
        continue_final_message=go_on,
        bos_token=family.bos,
        eos_token=family.eos,
        **{**family.variables, **(variables or {})},
    )
    return str(text)


def _as_documented(family: Family, message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the documentation of Hugging Face and of this family has it."""
    message = dict(message)
    if "tool_calls" in message:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": call["name"],
                    "arguments": json.dumps(call["arguments"], ensure_ascii=False)
                    if family.arguments_as_text
                    else call["arguments"],
                },
            }
            for call in message["tool_calls"]
        ]
        if family.calls_without_content and not message["content"]:
            message["content"] = None
    if family.typed:
        message["content"] = [{"type": "text", "text": message["content"]}]
    return message


def _suited(family: Family, messages: Messages) -> Messages:
    """Return what a person would send to this family instead of a system prompt."""
    if family.system or messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    joined = "\n\n".join(filter(None, (system["content"], first["content"])))
    return [_said("user", joined), *rest]


def controls(family: Family) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (family.bos, family.eos, *family.control))))


@pytest.fixture(scope="module")
def open_template() -> Iterator[Any]:
    """Return a function that gives a family's template; each has its process once."""
    opened: dict[str, ChatTemplate] = {}

    def get(family: Family) -> ChatTemplate:
        if family.name not in opened:
            opened[family.name] = ChatTemplate(
                family.template, family.bos, family.eos, control_texts=controls(family)
            )
        return opened[family.name]

    yield get
    for template in opened.values():
        template.close()


every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@every_family
def test_prompts_are_those_of_hugging_face(family: Family, open_template: Any) -> None:
    template: ChatTemplate = open_template(family)
    talks = {**TALKS, **(TOOL_TALKS if family.tools else {})}
    for name, messages in talks.items():
        tools = TOOLS if name in TOOL_TALKS else None
        for gen in (True, False):
            expected = reference(family, _suited(family, messages), gen, tools=tools)
            text = template.render(messages, gen, tools=tools or (), variables=family.variables)
            assert text == expected, (name, gen)


@every_family
def test_the_published_format_is_what_the_template_writes(
    family: Family, open_template: Any
) -> None:
    system = [_said("system", "Be brief.")] if family.system else []
    talk = [_said("user", "Hi"), _said("assistant", "Hello!"), _said("user", "Bye")]
    text = open_template(family).render([*system, *talk], variables=family.variables)
    assert text == family.example


@every_family
def test_what_a_template_can_do_is_found_out(family: Family, open_template: Any) -> None:
    facts = open_template(family).facts
    assert facts.takes_system == family.system
    assert facts.takes_turns == family.turns
    assert facts.native_tools == family.tools
    assert facts.thinking_open == family.thinking_open
    assert facts.opens_thinking == (family.thinking_open is not None)
    assert facts.thinking_variable == family.thinking_variable
    assert facts.has_thinking_switch == (family.thinking_variable not in (None, "reasoning_effort"))
    assert len(facts.notes) == (not family.system) + family.turns


@every_family
def test_a_reply_begins_as_a_final_message_is_continued(family: Family, open_template: Any) -> None:
    template: ChatTemplate = open_template(family)
    begin, differs = "Hello, I am", []
    for messages in (TALKS["one question"], TALKS["several turns"]):
        text = template.render(messages, variables=family.variables, begin=begin)
        answered = [*_suited(family, messages), _said("assistant", begin)]
        expected = reference(family, answered, False, go_on=True)
        if family.continues:
            prompt = reference(family, _suited(family, messages), True)
            assert text.removeprefix(prompt).strip() == begin
            differs.append(text != expected)
        else:
            assert text == expected
    assert any(differs) == bool(family.continues), "the reason why it differs is gone"


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.thinking_variable], ids=lambda family: family.name
)
def test_variables_reach_the_template(family: Family, open_template: Any) -> None:
    name = family.thinking_variable
    values = ("low", "high") if name == "reasoning_effort" else (True, False)
    texts = set()
    for value in values:
        variables = {**family.variables, name: value}
        text = open_template(family).render(TALKS["one question"], variables=variables)
        assert text == reference(family, TALKS["one question"], True, variables={name: value})
        texts.add(text)
    assert len(texts) == 2


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.tools], ids=lambda family: family.name
)
def test_several_calls_at_once_are_sent_as_the_template_takes_them(
    family: Family, open_template: Any
) -> None:
    user, asking, one, two = TWO_CALLS
    if family.name.startswith(("Llama", "gpt-oss")):  # which take one at a time
        with pytest.raises(TemplateError, match="call"):
            reference(family, TWO_CALLS, True, tools=TOOLS)
        first, second = ({**asking, "tool_calls": [call]} for call in asking["tool_calls"])
        expected = reference(family, [user, first, one, second, two], True, tools=TOOLS)
    else:
        expected = reference(family, TWO_CALLS, True, tools=TOOLS)
    text = open_template(family).render(TWO_CALLS, tools=TOOLS, variables=family.variables)
    assert text == expected


@every_family
def test_nothing_that_came_from_outside_becomes_a_control_token(
    family: Family, open_template: Any
) -> None:
    template: ChatTemplate = open_template(family)
    hostile = "".join(controls(family)) + " x"
    talk = [_said("user", hostile), _said("assistant", hostile), _said("user", hostile)]
    tools: Any = ()
    if family.tools:
        call = {"id": "call00001", "name": "weather", "arguments": {hostile: [hostile]}}
        talk = [
            *talk[:1],
            _said("assistant", "", tool_calls=[call]),
            _result(1, hostile),
        ]
        description = {**TOOLS[1]["function"], "description": hostile}  # type: ignore[dict-item]
        tools = [{"type": "function", "function": description}]
    parts = template.render_parts(talk, tools=tools, variables=family.variables, begin=hostile)
    harmless = json.loads(json.dumps(talk).replace(json.dumps(hostile)[1:-1], "harmless"))
    plain_tools = json.loads(json.dumps(tools).replace(json.dumps(hostile)[1:-1], "harmless"))
    clean = template.render(
        harmless, tools=plain_tools, variables=family.variables, begin="harmless"
    )
    pattern = template._control.pattern
    special = "".join(part.text for part in parts if part.parse_special)
    # The marks that are read as such are those of the template, and no more.
    assert pattern.findall(special) == pattern.findall(clean)
    assert sum(not part.parse_special for part in parts) >= 3 * len(controls(family))


GEMMA, MISTRAL, CHATML = (
    next(family for family in FAMILIES if family.name.startswith(name))
    for name in ("Gemma 1", "Mistral 7B v0.1", "ChatML")
)


def test_a_template_without_a_place_for_a_system_prompt_gets_it_all_the_same(
    open_template: Any,
) -> None:
    template: ChatTemplate = open_template(GEMMA)
    assert "put in front of your first message" in template.facts.notes[0]
    late = [
        _said("user", "Hi"),
        _said("assistant", "Hello!"),
        _said("system", "Be brief."),
        _said("user", "Bye"),
    ]
    assert template.render(late).endswith(
        "<start_of_turn>user\nBe brief.\n\nBye<end_of_turn>\n<start_of_turn>model\n"
    )
    only = template.render([_said("system", "Be brief.")])
    assert only == "<bos><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n"
    # Two questions in a row are one; a conversation that the model begins is refused in words.
    twice = template.render([_said("user", "a"), _said("user", "b")])
    assert twice == "<bos><start_of_turn>user\na\n\nb<end_of_turn>\n<start_of_turn>model\n"
    with pytest.raises(ChatTemplateError, match="refuses this conversation: Conversation roles"):
        template.render([_said("assistant", "Hello!"), _said("user", "Hi")])


def test_calls_are_written_as_text_where_the_template_knows_none(open_template: Any) -> None:
    talk = [*TWO_CALLS, _said("assistant", "Clear, and rain."), _said("user", "Thanks")]
    call = '{"name": "weather", "arguments": {"town": "Ems", "days": [1, 2], "unit": "C"}}'
    text = open_template(MISTRAL).render(talk)
    assert text.startswith(
        "<s>[INST] The weather in Ems and Köln? [/INST]"
        f"<tool_call>\n{call}\n</tool_call>\n<tool_call>\n{call.replace('Ems', 'Köln')}\n"
        "</tool_call></s> [INST] <tool_response>\nclear\n</tool_response>\n"
        "<tool_response>\nrain\n</tool_response> [/INST]Clear, and rain.</s> [INST] Thanks"
    )
    said = _said("assistant", "I look.", tool_calls=[_call(1, "Ems")])
    assert "I look.\n<tool_call>" in open_template(CHATML).render([talk[0], said])
