"""With the real engine, whatever the model: the arguments of a call obey the schema. 5 seconds.

The demo model is far too small to choose tools sensibly, so the call is begun for it: `begin_with`
is the text up to the call's mark, and what it then writes is held.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import Field
from support.tool_kinds import Address, Colour, Level, Movie, Place, Point

import gguf_widgets as gw
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.prompt import prompt_for
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.tools import Tool, ToolBox, asking, tool
from gguf_widgets.core.tools.asking import format_of
from gguf_widgets.core.tools.call_format import CallFormat
from gguf_widgets.core.tools.writing import CallWriter

pytest.importorskip("llama_cpp")

NUM_BOXES = 50
KINDS: tuple[Any, ...] = (
    int, bool, float, Colour, Level, Point, Place, Movie, Address, Literal["a", "b", 3],
    Annotated[int, Field(ge=3, le=9)], Annotated[str, Field(max_length=6)],
    Annotated[str, Field(pattern="^[a-z]{2,4}$")], int | None, tuple[int, bool],
    Annotated[list[Colour], Field(max_length=3)], dict[str, Literal[1, 2]],
)  # fmt: skip


def random_tool(rng: random.Random, number: int) -> Tool:
    names = rng.sample(["city", "count", "kind", "where", "é", "class_"], rng.randrange(4))

    def function(**given: Any) -> None: ...

    parameters = ", ".join(f"{name}{'=None' if rng.random() < 0.3 else ''}" for name in names)
    scope: dict[str, Any] = {}
    exec(f"def made(*, {parameters}): ..." if names else "def made(): ...", scope)  # noqa: S102
    made = scope["made"]
    made.__annotations__ = {name: rng.choice(KINDS) for name in names}
    return Tool(made, name=f"tool_{number}", description="A random tool.")


@pytest.fixture(scope="module")
def demo() -> Iterator[gw.Model]:
    model = gw.load("demo", n_ctx=4096)
    yield model
    model.unload()


def test_arguments_obey_the_schema_of_fifty_random_boxes_of_tools(demo: gw.Model) -> None:
    whole = 0
    for seed in range(NUM_BOXES):
        rng = random.Random(seed)  # noqa: S311
        box = ToolBox([random_tool(rng, number) for number in range(rng.randrange(1, 5))])
        form = rng.choice(
            [
                format_of(demo),
                CallFormat("", "", arguments_key="parameters", repeats=False),
                CallFormat("[TOOL_CALLS] ", "", is_list=True, repeats=False),
            ]
        )
        asked = {"temperature": 1.5, "max_tokens": 400, "seed": seed}

        def open_step(asked: dict[str, Any] = asked, **changes: Any) -> Any:
            return demo.stream("Use a tool.", **{**asked, **changes})

        writer = CallWriter(demo, box, form, asked, open_step)
        text, reply = writer._held(f"I look.\n{form.opening}")
        calls = form.read(text)
        if calls is None:
            assert reply.finish_reason == "length", text
            continue
        whole += 1
        jsonschema.validate(json.loads(text), form.schema(box), jsonschema.Draft202012Validator)
        for call in calls:
            tool = box.get(call.name)
            assert tool is not None
            tool.bind(call.arguments)  # and they are values of the annotations
    assert whole >= NUM_BOXES * 3 // 4


def test_a_whole_answer_with_a_call_of_the_real_engine(demo: gw.Model) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    box = ToolBox([add])
    # A word of its usual answer is made the mark, for by itself it would write no other.
    form = CallFormat("demo", "", repeats=False)
    plain = demo.chat("Hello", temperature=0)
    asked = {"temperature": 0, "max_tokens": 300, "seed": 1}

    def open_step(**changes: Any) -> Any:
        return demo.stream("Hello", **{**asked, **changes})

    writer = CallWriter(demo, box, form, asked, open_step)
    text = "".join(delta.text for delta in writer.write(lambda: False))
    assert text
    assert text == plain.text.partition("demo")[0]
    (call,) = writer.calls
    assert set(call.arguments) == {"a", "b"}
    assert writer.reply is not None
    assert writer.reply.text == text
    usage = writer.reply.usage
    assert usage.num_prompt_tokens == plain.usage.num_prompt_tokens
    assert usage.num_completion_tokens > len(demo.tokenize(text))


def test_a_whole_turn_of_a_chat_with_the_real_engine(demo: gw.Model) -> None:
    ran: list[tuple[int, int]] = []

    @tool(approve=False)
    def add(a: int, b: int) -> int:
        """Add."""
        ran.append((a, b))
        return a + b

    asking._found[demo] = {None: CallFormat("demo", "", repeats=False)}  # as above
    with (
        Store(":memory:") as store,
        ChatInterface(
            demo, tools=ToolBox([add], max_rounds=2), store=store, temperature=0, max_tokens=300
        ) as chat,
    ):
        reply = chat.send("Hello")
        calls = [call for message in chat.messages for call in message.tool_calls]
        assert calls
        assert ran == [(call.arguments["a"], call.arguments["b"]) for call in calls]
        assert [call.result for call in calls] == [str(a + b) for a, b in ran]
        assert [m.role for m in chat.messages] == ["user"] + ["assistant"] * (len(calls) + 1)
        assert len(calls) <= 2
        last = chat.messages[-1]
        assert reply.text == last.content
        # What was sent last is what the record says, tools and results included.
        line = chat.tool_loop.model_for(demo, chat.messages[:-1])
        assert "Add." not in demo.render(chat.prompt_messages())
        text = line.render(prompt_for(chat.messages[:-1], chat.system).messages)
        assert str(ran[-1][0] + ran[-1][1]) in text
    del asking._found[demo]
