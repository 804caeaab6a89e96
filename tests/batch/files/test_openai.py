"""OpenAI's batch files: requests as they are documented, results in the documented layout."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.batch.files import (
    FaultyRequest,
    OpenAiRequest,
    OpenAiResult,
    look,
    read,
    read_requests,
    result_line,
    write_results,
)
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import InvalidValueError, RowError, TableFileError
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.types import (
    FinishReason,
    ImagePart,
    Reply,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)
from tests.batch.test_images import png

_MESSAGES = [{"role": "user", "content": "Hello world!"}]


def _line(custom_id: str = "request-1", /, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-3.5-turbo-0125", "messages": _MESSAGES, **body},
    }


def _one(line: Any) -> OpenAiRequest:
    (request,) = read_requests(json.dumps(line).encode(), name="t.jsonl")
    assert isinstance(request, OpenAiRequest)
    return request


def test_the_example_of_the_documentation() -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello world!"},
    ]
    request = _one(_line("request-2", messages=messages, max_tokens=1000))
    assert (request.custom_id, request.model) == ("request-2", "gpt-3.5-turbo-0125")
    assert request.messages == messages
    assert request.prompt == "Hello world!"
    assert request.sampling == {"max_tokens": 1000}
    assert (request.num_samples, request.unsupported, request.ignored) == (1, (), ())
    assert request.settings(temperature=0.0) == SamplingSettings(temperature=0.0, max_tokens=1000)


_SCHEMA = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}


@pytest.mark.parametrize(
    ("body", "sampling"),
    [
        (
            {"temperature": 0, "top_p": 0.5, "seed": 7},
            {"temperature": 0.0, "top_p": 0.5, "seed": 7},
        ),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "\n"}, {"stop": ["\n"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop": None, "temperature": None}, {}),
        (
            {"presence_penalty": 1, "frequency_penalty": -1},
            {"presence_penalty": 1.0, "frequency_penalty": -1.0},
        ),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {50256: -100.0}}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": False}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"schema": {"type": "object"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": _SCHEMA},
                }
            },
            {"schema": _SCHEMA},
        ),
        ({"top_k": 20, "min_p": 0.1}, {"top_k": 20, "min_p": 0.1}),
    ],
)
def test_settings_mean_what_openai_says(body: dict[str, Any], sampling: dict[str, Any]) -> None:
    request = _one(_line(**body))
    assert request.sampling == sampling
    assert not request.unsupported
    request.settings()  # they are settings that the engine takes


def test_images_that_are_in_the_file_are_kept_and_others_are_said_to_be_left_out() -> None:
    url = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    here = {"url": url, "detail": "low"}
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": here}]
    request = _one(_line(messages=[{"role": "user", "content": parts}]))
    assert request.unsupported == ()
    assert request.ignored == ("messages[0].content[1].image_url.detail",)
    assert request.prompt == "What is it?"
    (message,) = to_messages(request.messages)  # it can be sent as it is
    assert message["parts"][1] == ImagePart(data=png(1))


def test_nothing_is_dropped_in_silence() -> None:
    request = _one(
        {
            **_line(
                tools=[{"type": "function"}],
                reasoning_effort="low",
                stream=True,
                a_new_name=1,
                user="me",
                metadata={"a": "b"},
                n=3,
                messages=[
                    {"role": "developer", "content": "Be short.", "name": "boss"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is "},
                            {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}},
                        ],
                    },
                    {"role": "assistant", "content": None, "tool_calls": [{}]},
                    {"role": "tool", "content": "4", "tool_call_id": "x"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "And "},
                            {"type": "text", "text": "now?"},
                        ],
                    },
                ],
            ),
            "extra": 1,
        }
    )
    assert request.unsupported == (
        "messages[0].name",
        "messages[1].content[1] (image_url)",
        "messages[2].tool_calls",
        "messages[3] (role tool)",
        "messages[3].tool_call_id",
        "tools",
        "reasoning_effort",
        "stream",
        "a_new_name",
        "extra",
    )
    assert request.ignored == ("user", "metadata")
    assert request.num_samples == 3
    assert request.messages[0] == {"role": "system", "content": "Be short."}
    assert request.messages[4]["content"] == request.prompt == "And now?"
    assert isinstance(request.messages[1]["content"], list)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ([1], "not an object"),
        ({**_line(), "custom_id": 7}, "custom_id is not a text"),
        ({**_line(), "method": "GET"}, "method is 'GET'"),
        ({**_line(), "url": "/v1/embeddings"}, "url is '/v1/embeddings'"),
        ({**_line(), "body": None}, "body is not an object"),
        (_line(model=None), r"body\.model is not a text"),
        (_line(messages=[]), "messages is not a list with a message"),
        (_line(messages=[{"role": "alien", "content": "x"}]), "role 'alien'"),
        (_line(messages=[{"role": "user"}]), r"messages\[0\]\.content is neither"),
        (_line(temperature=9), "temperature is 9"),
        (_line(temperature="hot"), "wrong type"),
        (_line(max_tokens=1, max_completion_tokens=2), "differ"),
        (_line(n=0), "n is 0"),
        (_line(top_logprobs=3), "needs logprobs"),
        (_line(logit_bias={"x": 1}), "logit_bias"),
        (_line(response_format={"type": "json_schema"}), "has no schema"),
    ],
)
def test_a_line_that_is_no_request_is_told_with_its_number(line: Any, says: str) -> None:
    data = "\n".join(["", json.dumps(_line("a")), json.dumps(line)]).encode()
    with pytest.raises(TableFileError, match=rf"1 line cannot be run .*line 3: .*{says}"):
        read_requests(data, name="t.jsonl")
    good, faulty = read_requests(data, name="t.jsonl", faulty="keep")
    assert isinstance(good, OpenAiRequest)
    assert isinstance(faulty, FaultyRequest)
    assert faulty.line == 3


def test_a_line_that_is_no_json_does_not_take_the_others_along() -> None:
    data = b'{"custom_id": \n' + json.dumps(_line("b")).encode()
    faulty, good = read_requests(data, name="t.jsonl", faulty="keep")
    assert isinstance(faulty, FaultyRequest)
    assert faulty.reason.startswith("it is not valid JSON (Expecting value")
    assert isinstance(good, OpenAiRequest)


def test_two_requests_of_one_name_are_refused_with_their_lines() -> None:
    data = "\n".join(json.dumps(_line(name)) for name in ("a", "b", "a")).encode()
    for faulty in ("refuse", "keep"):
        with pytest.raises(TableFileError, match="'a' in lines 1 and 3"):
            read_requests(data, name="t.jsonl", faulty=faulty)  # type: ignore[arg-type]


def test_requests_are_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    lines = [_line("a", max_tokens=3, user="me"), _line("b", tools=[])]
    path.write_text("\n".join(map(json.dumps, lines)))
    info = look(path)
    assert info.format == "openai"
    assert (info.num_rows, info.problems) == (2, ())
    assert info.notes == (
        "Asked for and not supported here: tools (in 1 request).",
        "Without meaning here, and without effect: user (in 1 request).",
    )
    assert info.rows[0][:3] == ("a", "gpt-3.5-turbo-0125", "Hello world!")
    assert read(path).num_rows == 2
    requests = read_requests(path)
    assert (len(requests), len(list(requests)), len(list(requests))) == (2, 2, 2)


def _reply(text: str = "Hi", **changes: Any) -> Reply:
    given: dict[str, Any] = {
        "text": text,
        "finish_reason": FinishReason.STOP,
        "usage": Usage(num_prompt_tokens=20, num_cached_tokens=8, num_completion_tokens=2),
        "timings": Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=0, total_s=0),
        "seed": 1,
        **changes,
    }
    return Reply(**given)


def test_results_have_the_documented_layout(tmp_path: Path) -> None:
    token = TokenLogprob(
        1, "Hi", -0.5, [TokenChance(1, "Hi", -0.5), TokenChance(2, "\ufffd", -1.0)]
    )
    results = [
        OpenAiResult(
            custom_id="a",
            model="demo",
            replies=[
                _reply("Hi é😀", logprobs=[token]),
                _reply("Ho", finish_reason=FinishReason.LENGTH),
            ],
            created_at=1711652795.7,
            run_id="r",
        ),
        OpenAiResult(custom_id="b", model="demo", error=RowError("This row has no text.")),
        OpenAiResult(
            custom_id="c", model="demo", replies=[_reply(finish_reason=FinishReason.ABORTED)]
        ),
    ]
    path = tmp_path / "out.jsonl"
    written = write_results(path, results)
    assert (written.num_rows, written.num_bytes) == (3, path.stat().st_size)
    good, failed, stopped = map(json.loads, path.read_text("utf-8").splitlines())
    mark = good["id"].removeprefix("batch_req_")
    assert good == {
        "id": f"batch_req_{mark}",
        "custom_id": "a",
        "response": {
            "status_code": 200,
            "request_id": f"req_{mark}",
            "body": {
                "id": f"chatcmpl-{mark}",
                "object": "chat.completion",
                "created": 1711652795,
                "model": "demo",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hi é😀", "refusal": None},
                        "logprobs": {
                            "content": [
                                {
                                    "token": "Hi",
                                    "logprob": -0.5,
                                    "bytes": [72, 105],
                                    "top_logprobs": [
                                        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
                                        {"token": "\ufffd", "logprob": -1.0, "bytes": None},
                                    ],
                                }
                            ],
                            "refusal": None,
                        },
                        "finish_reason": "stop",
                    },
                    {
                        "index": 1,
                        "message": {"role": "assistant", "content": "Ho", "refusal": None},
                        "logprobs": None,
                        "finish_reason": "length",
                    },
                ],
                "usage": {
                    "prompt_tokens": 20,
                    "completion_tokens": 4,
                    "total_tokens": 24,
                    "prompt_tokens_details": {"cached_tokens": 8},
                },
                "system_fingerprint": None,
            },
        },
        "error": None,
    }
    assert failed["response"] is None
    assert failed["error"] == {"code": "RowError", "message": "This row has no text."}
    assert stopped["error"]["code"] == "aborted"
    assert len({good["id"], failed["id"], stopped["id"]}) == 3
    again = write_results(tmp_path / "again.jsonl", results)
    assert again.path.read_bytes() == path.read_bytes()


def test_a_result_of_nothing_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="neither a reply nor an error"):
        result_line(OpenAiResult(custom_id="a", model="demo"))
    with pytest.raises(InvalidValueError):
        write_results(tmp_path / "t.jsonl", [OpenAiResult(custom_id="a", model="demo")])
    assert not (tmp_path / "t.jsonl").exists()
