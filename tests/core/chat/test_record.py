"""What is noted with an answer: it tells different things apart, and never fails. About 4 s."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.chat_fakes import FakeModel

from gguf_widgets.core.chat.record import complete_record, digest_of_tokens, record_of
from gguf_widgets.core.errors import WorkerDiedError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.settings import LoadSettings, SamplingSettings
from gguf_widgets.core.types import Message, PromptToken
from gguf_widgets.demo import demo_model_path

SETTINGS = SamplingSettings()
needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or not demo_model_path().exists(),
    reason="needs llama-cpp-python and the demo model",
)


def hello(text: str = "Hello") -> list[Message]:
    return [Message(role="user", content=text)]


def test_a_model_that_can_tell_nothing_is_no_hindrance() -> None:
    model = FakeModel()
    record = complete_record(record_of(model, hello(), SETTINGS), model, hello())
    assert json.loads(json.dumps(record)) == record
    assert record["name"] == "fake"
    assert record["load"]["n_ctx"] == 512
    assert record["prompt"] is None
    assert record["model"] is None  # there is no such file
    assert record["num_tokens_beside"] is None
    assert not [name for name in record if name.startswith("$")]


def test_a_worker_that_dies_costs_only_what_it_would_have_told() -> None:
    class Dying(FakeModel):
        def prompt_tokens(self, *_: Any, **__: Any) -> list[PromptToken]:
            raise WorkerDiedError("It is gone.")

        stats = prompt_tokens

    model = Dying()
    record = complete_record(record_of(model, hello(), SETTINGS), model, hello())
    assert record["prompt"] is None
    assert record["template"]


def test_the_beginning_is_kept_where_it_is_tokens() -> None:
    begin = [5, 6]
    assert record_of(FakeModel(), hello(), SETTINGS, begin_with=begin)["begin_tokens"] == begin
    assert "begin_tokens" not in record_of(FakeModel(), hello(), SETTINGS, begin_with="One")


def test_a_request_of_its_own_has_nobody_beside_it() -> None:
    alone = SamplingSettings(reproducible=True)
    model = FakeModel()
    record = complete_record(record_of(model, hello(), alone), model, hello())
    assert record["num_tokens_beside"] == 0


def test_what_is_another_has_another_digest() -> None:
    def template_of(source: str | None) -> Any:
        model = FakeModel()
        model.settings = LoadSettings(n_ctx=512, chat_template=source)
        return record_of(model, hello(), SETTINGS)["template"]

    assert len({template_of(None), template_of("chatml"), template_of("{{ x }}")}) == 3
    asked = [
        record_of(FakeModel(), messages, SETTINGS, **more)["conversation"]
        for messages, more in (
            (hello(), {}),
            (hello("hello"), {}),
            (hello(), {"tools": [{"type": "function"}]}),
            (hello(), {"template_variables": {"enable_thinking": False}}),
        )
    ]
    assert len(set(asked)) == 4
    texts = [
        [PromptToken(1, "a")],
        [PromptToken(1, "a"), PromptToken(1, "a")],
        [PromptToken(2, "")],
    ]
    images = [[PromptToken(-1, "[image 1: 16 tokens]")], [PromptToken(-1, "[image 1: 4 tokens]")]]
    assert len({digest_of_tokens(tokens) for tokens in (*texts, *images)}) == 5


@needs_llama
def test_the_demo_models_record_is_the_same_again_and_notices_a_neighbour(
    no_leaks: None, tmp_path: Path
) -> None:
    manager = ModelManager(keep_alive=0)
    model = manager.load("demo", n_ctx=512, n_threads=1)
    records = []
    for _ in range(2):
        begun = record_of(model, hello(), SETTINGS)
        reply = model.chat(hello(), temperature=0, max_tokens=8)
        records.append(complete_record(begun, model, hello(), reply=reply))
    first, second = records
    assert first == second
    assert first["num_tokens_beside"] == 0
    assert first["num_prompt_tokens"] == reply.usage.num_prompt_tokens
    assert first["model"]
    assert first["engine"]
    assert None not in (first["template"], first["prompt"], first["processor"])

    begun = record_of(model, hello(), SETTINGS)
    model.chat("Tell me a story", temperature=0, max_tokens=20)  # somebody else's
    reply = model.chat(hello(), temperature=0, max_tokens=8)
    with_other = complete_record(begun, model, hello(), reply=reply)
    assert with_other["num_tokens_beside"] >= 20
    # A file of other numbers under the same header is another model.
    copy = tmp_path / "copy.gguf"
    data = bytearray(demo_model_path().read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    other = manager.load(copy, n_ctx=512, n_threads=1)
    told = complete_record(record_of(other, hello(), SETTINGS), other, hello())
    assert told["size_bytes"] == first["size_bytes"]
    assert told["model"] not in (None, first["model"])
    assert told["template"] == first["template"]
    assert told["prompt"] == first["prompt"]
    assert msgspec.json.decode(msgspec.json.encode(told)) == told
    manager.close()
