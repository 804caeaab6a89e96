"""The same answer once more: the same is said to be the same, and what differs is named. About 8 s.

The demo model is small enough that its answers hardly depend on the last digits, so what would
change the text only there is also tried by changing what was recorded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.chat_fakes import FakeModel

from gguf_widgets.core.chat.differences import differences
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.repeat import Repeat, compare
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import InvalidValueError, WorkerError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.types import TokenChance, TokenLogprob, Usage
from gguf_widgets.demo import demo_model_path

Make = Callable[..., ChatInterface]
needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or not demo_model_path().exists(),
    reason="needs llama-cpp-python and the demo model",
)
SHOUTING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | upper }}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


@pytest.fixture
def llama(no_leaks: None) -> Iterator[ModelManager]:
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


def load(manager: ModelManager, path: Path | str = "demo", **settings: Any) -> Model:
    return manager.load(path, n_ctx=512, n_seq_max=2, **{"n_threads": 1, **settings})


def names(repeat: Repeat) -> set[str]:
    passing = {"num_cached_tokens", "num_tokens_beside"}
    return {one.name for one in repeat.differences} - passing


@needs_llama
def test_the_same_again_is_the_same_whatever_the_chat_is_set_to_meanwhile(
    llama: ModelManager, make_chat: Make
) -> None:
    chat = make_chat(load(llama), temperature=1.0, system="You tell stories.")
    chat.send("Tell me a story about Emma.", max_tokens=30)
    original = chat.messages[-1]
    chat.sampling = {"temperature": 0.1, "seed": 3, "max_tokens": 5}
    chat.system = "You are rude."

    repeat = chat.repeat()
    assert repeat.same, repeat.words
    assert repeat.words.startswith("The same answer, to the last of ")
    assert names(repeat) == set()
    assert repeat.message.id != original.id
    assert repeat.message.content == original.content
    assert repeat.message.seed == original.seed
    assert repeat.message.system == original.system
    assert chat.branches(original.id) == [original.id, repeat.message.id]
    assert chat.sampling.seed == 3, "the chat's own settings stay"

    # Also where the answer was gone on with from the middle, with another token.
    tokens = chat.tokens(repeat.message.id)
    assert tokens is not None
    place = next(i for i, token in enumerate(tokens) if token.top[1].logprob > -3)
    chat.sampling = {"temperature": 1.0, "max_tokens": 20}
    branch = chat.branch_at(repeat.message.id, place, tokens[place].top[1].token)
    wait_until_idle(chat)
    again = chat.repeat(branch.id)
    assert again.same, again.words
    assert again.message.begin


@needs_llama
def test_each_other_circumstance_is_named(
    llama: ModelManager, make_chat: Make, tmp_path: Path
) -> None:
    chat = make_chat(load(llama), temperature=0, max_tokens=12)
    chat.send("Tell me a story about Emma.")
    first = chat.messages[-1].id

    def again_with(model: Model) -> Repeat:
        chat.show_branch(first)
        chat.model = model
        return chat.repeat(first)

    threads = again_with(load(llama, n_threads=2))
    assert names(threads) == {"n_threads"}
    assert "n_threads was 1 and is 2 now." in threads.words
    assert all(one.only_digits for one in threads.differences)

    template = again_with(load(llama, chat_template=SHOUTING))
    assert names(template) == {"template"}
    assert not template.same
    assert "Another answer. It differs from token " in template.words
    assert "The chat template was another one." in template.words
    assert template.token is not None
    assert template.character is not None

    # The same header, other numbers.
    data = bytearray(demo_model_path().read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64_000] = bytes(64_000)
    (tmp_path / "demo.gguf").write_bytes(data)
    other = again_with(load(llama, tmp_path / "demo.gguf"))
    assert names(other) == {"model"}
    assert "holds other numbers than then" in other.words


@needs_llama
def test_what_is_changed_in_a_record_by_hand_is_named(llama: ModelManager, make_chat: Make) -> None:
    chat = make_chat(load(llama), temperature=0, max_tokens=8)
    chat.send("Hello")
    chat.repeat()
    now = chat.messages[-1]
    record = now.record
    assert record is not None
    for name, value in record.items():
        if name in ("format", "conversation", "num_prompt_tokens", "opens_thinking", "name",
                    "num_images", "size_bytes", "backend", "mmproj", "lora", "load"):  # fmt: skip
            continue
        changed = 5 if name == "num_tokens_beside" else f"another {value}"
        then = msgspec.structs.replace(now, record={**record, name: changed})
        found = [one.name for one in differences(then, now)]
        assert found == ["system_kind" if name == "system" else name], name
    for name in record["load"]:
        load_then = {**record["load"], name: "another"}
        then = msgspec.structs.replace(now, record={**record, "load": load_then})
        assert [one.name for one in differences(then, now)] == [name]
    adapters = [{"name": "a", "scale": 1.0, "digest": "d"}]
    then = msgspec.structs.replace(now, record={**record, "lora": adapters})
    assert [one.name for one in differences(then, now)] == ["lora"]
    # The image companion counts where there is an image.
    for num_images, companion, found in (
        (0, "another", []),
        (1, "another", ["mmproj"]),
        (1, None, ["mmproj"]),
    ):
        both = [
            msgspec.structs.replace(now, record={**record, "num_images": num_images, **more})
            for more in ({"mmproj": companion}, {})
        ]
        assert [one.name for one in differences(*both)] == found
    assert differences(now, now) == []


def wait_until_idle(chat: ChatInterface) -> None:
    """Wait for the answer that is being written."""
    from tests.core.conftest import wait_for

    wait_for(lambda: not chat.busy, "the answer has ended")


# -- the words, on made-up answers -----------------------------------------------------------------

RECORD = {"load": {"n_threads": 2}, "prompt": "p", "model": "m", "num_tokens_beside": 0}


def answer(content: str, **changes: Any) -> ChatMessage:
    facts: dict[str, Any] = {
        "id": content[:4] + str(len(changes)),
        "conversation_id": "c",
        "parent_id": "u",
        "role": "assistant",
        "content": content,
        "status": MessageStatus.COMPLETE,
        "created_at": 0.0,
        "sampling": SamplingSettings(),
        "seed": 5,
        "model_name": "demo",
        "usage": Usage(num_prompt_tokens=9),
        "record": RECORD,
    }
    return ChatMessage(**{**facts, **changes})


class Kept:
    """A chat that has nothing but recorded tokens."""

    def __init__(self, tokens: dict[str, list[TokenLogprob]] | None = None) -> None:
        self._tokens = tokens or {}

    def tokens(self, message_id: str) -> list[TokenLogprob] | None:
        return self._tokens.get(message_id)

    def token_start(self, _message_id: str) -> int:
        return 0


def words(then: ChatMessage, now: ChatMessage, kept: Kept | None = None) -> str:
    chat: Any = kept or Kept()
    return compare(chat, then, now).words


def test_where_nothing_recorded_differs_the_words_say_what_can_cause_it() -> None:
    hi = TokenLogprob(1, "Hi ", -0.1)
    tokens = {
        "a": [hi, TokenLogprob(2, "you", -0.693, [TokenChance(3, "me", -0.7)])],
        "b": [hi, TokenLogprob(3, "me", -0.69, [TokenChance(2, "you", -0.7)])],
    }
    said = words(answer("Hi you", id="a"), answer("Hi me", id="b"), Kept(tokens))
    assert said.startswith(
        "Another answer. It differs from token 2 on: “you” (50%) then, “me” (50%)"
    )
    assert "The first time the token of now had 50%." in said
    assert "Nothing that is recorded differs." in said
    assert "reproducible=True" in said


def test_differences_that_reach_only_the_last_digits_are_said_to() -> None:
    busy = {**RECORD, "num_tokens_beside": 40}
    said = words(answer("Hi you"), answer("Hi me", record=busy))
    assert "character 4 on: “you” then, “me” now" in said
    assert "This time the model worked for others as well (40 tokens)." in said
    assert "last digits of the probabilities only" in said
    more = words(answer("Hi you"), answer("Hi me", record={**busy, "model": "n"}))
    assert "last digits" not in more


def test_an_answer_without_a_record_is_not_explained() -> None:
    said = words(answer("Hi you", record=None), answer("Hi me"))
    assert "was not recorded in full" in said
    assert words(answer("Hi", record=None), answer("Hi")).startswith("The same answer")


def test_a_stopped_answer_is_compared_as_far_as_it_goes() -> None:
    stopped = answer("Hi y", status=MessageStatus.ABORTED)
    assert words(stopped, answer("Hi you")) == (
        "The same answer, as far as it goes: the first one was stopped."
    )
    assert words(answer("Hi you"), stopped).endswith("the new one was stopped.")
    assert words(stopped, answer("Oh")).startswith("Another answer.")
    # A complete one that is shorter is another answer.
    assert words(answer("Hi you"), answer("Hi")).startswith("Another answer.")
    failed = answer(
        "", status=MessageStatus.FAILED, error={"kind": "E", "message": "No.", "details": {}}
    )
    assert words(answer("Hi"), failed).startswith("It could not be written again: No.")


def test_settings_of_asking_are_compared_by_name() -> None:
    then = answer("a", system="Be kind.", begin="a", sampling=SamplingSettings(temperature=0.5))
    now = answer("a", system=None, seed=6, left_out=("x",), sampling=SamplingSettings(top_k=3))
    found = {one.name: one.words for one in differences(then, now)}
    assert set(found) == {"system", "begin", "temperature", "top_k", "seed", "left_out"}
    assert found["system"] == "The system prompt was “Be kind.” and is empty now."
    assert found["temperature"] == "temperature was 0.5 and is 0.8 now."


def test_what_cannot_be_repeated_is_refused_in_words(make_chat: Make) -> None:
    chat = make_chat(FakeModel(["One"], ["Two", WorkerError("Gone.")]))
    with pytest.raises(InvalidValueError, match="no answer to repeat"):
        chat.repeat()
    chat.send("Hello")
    with pytest.raises(InvalidValueError, match="'nobody' is no answer"):
        chat.repeat("nobody")
    edited = chat.edit(chat.messages[-1].id, "Mine")
    with pytest.raises(InvalidValueError, match="changed this answer yourself"):
        chat.repeat(edited.id)
    with pytest.raises(WorkerError):
        chat.send("Again")
    with pytest.raises(InvalidValueError, match="its seed is not known"):
        chat.repeat()
