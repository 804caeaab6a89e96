"""What "Look inside" answers a page, also a hostile one. About 2 s."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from support.chat_fakes import FakeModel, Watcher, token_of

from gguf_widgets.core.chat.export import words
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, PromptToken, Timings, TokenChance, TokenLogprob
from gguf_widgets.demo import demo_model_path
from gguf_widgets.widgets._chat_inside import PROMPT_A_PIECE, TOKENS_A_PIECE, InsidePart
from gguf_widgets.widgets._chat_numbers import ending_of, numbers_of, short_numbers


class Reading(FakeModel):
    """A fake that can say what it reads: a token for each character, marks around messages."""

    asked: int = 0

    def render(self, messages: Any, **_: Any) -> str:
        return "".join(f"<{one['role']}>{one['content']}" for one in messages)

    def prompt_tokens(self, messages: Any, **_: Any) -> list[PromptToken]:
        self.asked += 1
        tokens: list[PromptToken] = []
        for one in messages:
            tokens.append(PromptToken(1, f"<{one['role']}>", True))
            tokens += [PromptToken(ord(character), character) for character in one["content"]]
        return tokens

    def count_tokens(self, messages: Any, **_: Any) -> int:
        return 10


class Host:
    """The box around the part, and its page: what is to be done later is done at once."""

    def __init__(self, chat: ChatInterface) -> None:
        self.chat = chat
        self.touched = 0
        self.done: list[Any] = []
        self.part = InsidePart(self)

    @property
    def model(self) -> Any:
        return self.chat.model

    def touch(self) -> None:
        self.touched += 1

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def tell(self, content: Any, buffers: Any = None) -> None:
        raise AssertionError("the part has nothing to tell")

    def answer(self, asked: Any, buffers: Any = None, **more: Any) -> None:
        raise AssertionError("the part answers in other ways")

    def at_work(self, do: Callable[[], object], asked: Any = None) -> None:
        self.done.append(do())

    def ask(self, kind: str, **content: Any) -> Any:
        answer = self.part.ACTIONS[f"inside-{kind}"](self.part, content, [])
        return self.done.pop() if answer is None else answer


def token(text: str, chance: float = 0.9, **others: float) -> TokenLogprob:
    """Return a token; others that could have stood there are named by their texts."""
    chances = {text: chance, **others}
    top = [TokenChance(token_of(one), one, math.log(p)) for one, p in chances.items()]
    return TokenLogprob(
        token_of(text), text, math.log(chance), sorted(top, key=lambda one: -one.logprob)
    )


@pytest.fixture
def host(home: object) -> Iterator[Host]:
    with (
        Store() as store,
        ChatInterface(
            Reading(["Yes ", "it is"], ["Yes ", "it is"]), store=store, system="S"
        ) as chat,
    ):
        chat.send("Is it?")
        chat.model.next_stream()
        yield Host(chat)


def last(host: Host) -> str:
    return host.chat.messages[-1].id


def keep(host: Host, tokens: list[TokenLogprob]) -> str:
    Conversations(host.chat.store).keep_tokens(last(host), tokens)
    return last(host)


def test_tokens_come_in_pieces_that_say_how_many_there_are(host: Host) -> None:
    many = [token("x", 0.9)] * (TOKENS_A_PIECE + 5)
    many[7] = token("y", 0.05)
    message = keep(host, many)
    first = host.ask("tokens", message=message, start=0)
    assert (first["total"], len(first["texts"])) == (len(many), TOKENS_A_PIECE)
    assert first["leastSure"] == [7]
    rest = host.ask("tokens", message=message, start=TOKENS_A_PIECE)
    assert len(rest["texts"]) == len(rest["chances"]) == 5
    assert msgspec.json.encode([first, rest])


def test_one_token_is_told_in_words(host: Host) -> None:
    tokens = [token("Yes "), token("it", 0.25, was=0.5, will=0.15), token(" is", 1.0)]
    message = keep(host, tokens)
    seen = host.ask("tokens", message=message)
    assert seen["texts"] == ["Yes ", "it", " is"]
    told = host.ask("token", message=message, index=1)
    assert (told["chance"], told["rank"]) == ("25%", "the 2nd likeliest")
    assert told["torn"] == "The model was torn between about 3 tokens."
    assert told["rest"] == "10%"
    assert [(one["text"], one["written"]) for one in told["choices"]] == [
        ("was", False), ("it", True), ("will", False),
    ]  # fmt: skip
    assert host.ask("token", message=message, index=0)["text"] == "Yes␣"
    assert host.ask("token", message=message, index=2)["torn"] == "The model was sure."


def test_text_without_tokens_is_shown_and_said_to_have_none(host: Host) -> None:
    message = keep(host, [token("Yes ")])  # the rest came after they were last kept
    assert host.ask("tokens", message=message)["after"] == "it is"
    host.model.script.append(["Yes ", "it was"])
    host.chat.send("Once more?", begin="Yes ")
    message = keep(host, [token("it"), token(" was")])
    told = host.ask("tokens", message=message)
    assert (told["before"], told["texts"], told["after"]) == ("Yes ", ["it", " was"], "")


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("tokens", {"start": -1}, "start is -1"),
        ("tokens", {"start": 10**9}, "from 0 to 3"),
        ("tokens", {"start": True}, "start is True"),
        ("token", {"index": "0"}, "index is '0'"),
        ("token", {"index": 3}, "from 0 to 2"),
        ("branch", {"index": 0, "token": 10**9}, "none of the alternatives"),
        ("branch", {"index": 0, "token": ["it"]}, "none of the alternatives"),
        ("prompt", {"start": 10**6}, "start is"),
        ("prompt", {"start": None}, "start is None"),
        ("tokens", {"message": 7}, "named no message"),
        ("token", {"message": "nobody"}, "not on screen"),
        ("repeat", {"message": "nobody"}, "not on screen"),
    ],
)
def test_what_a_page_must_not_ask_is_refused_in_words(
    host: Host, kind: str, content: dict[str, Any], words: str
) -> None:
    message = keep(host, [token("Yes "), token("it"), token(" is")])
    with pytest.raises(InvalidValueError, match=words):
        host.ask(kind, **{"message": message, **content})
    assert len(host.chat.messages) == 2


def test_an_answer_without_recorded_tokens_says_so(host: Host) -> None:
    host.chat.record_tokens = 0
    host.chat.send("And this?")
    with pytest.raises(InvalidValueError, match="were not recorded"):
        host.ask("tokens", message=last(host))


def test_a_huge_prompt_is_shown_in_pieces_and_read_once(host: Host) -> None:
    model = host.model
    question = "word " * 1000
    model.script.append(["No"])
    host.chat.send(question)
    model.asked = 0
    pieces = [host.ask("prompt", message=last(host), start=0)]
    while pieces[-1]["start"] + len(pieces[-1]["texts"]) < pieces[0]["total"]:
        start = pieces[-1]["start"] + PROMPT_A_PIECE
        pieces.append(host.ask("prompt", message=last(host), start=start))
    assert model.asked == 1
    whole = model.render(host.chat.prompt_messages()[:-1])
    assert "".join(text for piece in pieces for text in piece["texts"]) == whole
    assert host.ask("copy", message=last(host)) == {"text": whole}
    for piece in pieces:
        ends = [(span["start"], span["end"]) for span in piece["spans"]]
        assert ends[0][0] == 0
        assert ends[-1][1] == len(piece["texts"]) <= PROMPT_A_PIECE
    assert {one["label"]: one["count"] for one in pieces[0]["summary"]} == {
        "added by the template": 4,
        "system prompt": 1,
        "your messages": len("Is it?") + len(question),
        "earlier answers": len("Yes it is"),
    }
    # The fake says nothing of its template then and now: what it read is the same.
    assert pieces[0]["warning"] == ""


def test_another_template_since_then_is_told(host: Host) -> None:
    message = last(host)
    model = host.model
    plain = model.prompt_tokens
    model.prompt_tokens = lambda *args, **more: [*plain(*args, **more), PromptToken(2, "!")]
    assert "read something else then" in host.ask("prompt", message=message)["warning"]


def test_the_same_again_shows_its_work_and_then_its_result(host: Host) -> None:
    original = last(host)
    new = host.ask("repeat", message=original)["message"]
    state = host.part.state(host.chat.snapshot())
    assert state["repeats"][new]["kind"] in ("working", "same")
    watcher = Watcher(host.chat)
    if host.chat.busy:
        watcher.wait_end()
    shot = host.chat.snapshot()
    result = host.part.state(shot)["repeats"][new]
    assert result["kind"] == "same"
    assert result["words"].startswith("The same answer")
    # It is about the new one: where the first is shown there is none.
    host.chat.show_branch(original)
    assert host.part.state(host.chat.snapshot())["repeats"] == {}


def test_going_on_with_another_token_is_a_new_branch(host: Host) -> None:
    tokens = [token("Yes "), token("it", 0.6, was=0.3), token(" is")]
    message = keep(host, tokens)
    new = host.ask("branch", message=message, index=1, token=token_of("was"))["message"]
    assert host.model.next_stream().begin == "Yes was"
    assert new != message


def test_the_numbers_are_in_words(host: Host) -> None:
    answer = host.chat.messages[-1]
    lines = {one["label"]: one["value"] for one in numbers_of(answer)}
    assert lines["Why it ended"] == "The model was done"
    assert lines["Seed"] == "7"
    assert lines["Settings"] == "all standard"
    assert lines["Model"].startswith("fake (Q8_0")
    assert numbers_of(host.chat.messages[0]) == []
    changed = msgspec.structs.replace(
        answer,
        finish_reason=FinishReason.LENGTH,
        sampling=SamplingSettings(temperature=0.25, stop=("a",), max_tokens=2, schema={}, seed=4),
        timings=Timings(
            queue_s=0, prefill_s=1, decode_s=2, ttft_s=1.25, total_s=3, decode_tok_per_s=31
        ),
    )
    lines = {one["label"]: one["value"] for one in numbers_of(changed)}
    assert lines["Settings"] == "temperature 0.25, stop ['a'], max_tokens 2, JSON schema"
    assert lines["Why it ended"] == "It reached the longest answer that was allowed (2 tokens)"
    assert short_numbers(changed) == "2 tokens · 31 tokens/s · first word after 1.2 s"
    full = msgspec.structs.replace(changed, sampling=SamplingSettings())
    assert ending_of(full) == "The context was full"
    view = host.part.view(changed, host.chat.snapshot())
    assert msgspec.json.encode(view)


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or not demo_model_path().exists(),
    reason="needs llama-cpp-python and the demo model",
)
def test_an_answer_does_not_go_on_with_a_control_token(home: object) -> None:
    manager = ModelManager(keep_alive=0)
    model = manager.load("demo", n_ctx=512, n_threads=1)
    with Store() as store, ChatInterface(model, store=store, temperature=0) as chat:
        chat.send("Hello")
        host = Host(chat)
        tokens = chat.tokens(last(host)) or []
        end = model.tokenize("<|im_end|>")[0]
        place = next(i for i, one in enumerate(tokens) if end in [c.token for c in one.top])
        told = host.ask("token", message=last(host), index=place)["choices"]
        assert {one["token"]: one["control"] for one in told}[end] is True
        assert sum(one["control"] for one in told) == 1
        with pytest.raises(InvalidValueError, match="is a control token"):
            host.ask("branch", message=last(host), index=place, token=end)
    manager.close()


def test_an_answer_that_goes_on_from_a_token_is_counted_whole_in_each_place(host: Host) -> None:
    before = last(host)
    keep(host, [token("Yes ", 0.5, **{"No ": 0.4}), token("it is")])
    host.ask("branch", message=before, index=0, token=token_of("No "))
    host.chat.model.next_stream()
    host.chat._answer and host.chat._answer.join(60)
    answer = host.chat.messages[-1]
    total = host.ask("tokens", message=answer.id)["total"]
    assert (total, answer.usage.num_completion_tokens) == (3, 2)
    assert short_numbers(answer).startswith("3 tokens, 2 of them new")
    written = next(one for one in numbers_of(answer) if one["label"] == "Written")
    assert written["value"] == "2 tokens, after 1 of the version before"
    assert words.facts_of(answer)[0] == "3 tokens, 2 of them new"
