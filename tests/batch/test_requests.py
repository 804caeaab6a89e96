"""OpenAI's batch requests as a run: each has messages and settings of its own, and one result."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.batch import files
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.core.errors import GgufWidgetsError, UnsupportedByModelError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Reply, TokenChance, TokenLogprob
from tests.batch.test_images import png
from tests.batch.test_runner import Bench, reply


def request(name: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "any", "messages": [{"role": "user", "content": "Hello"}], **body}
    url = "/v1/chat/completions"
    return {"custom_id": name, "method": "POST", "url": url, "body": asked}


def test_tokens_and_their_alternatives_come_back_where_a_request_asks_for_them(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    path, out = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    blind = manager.load("demo", mmproj=False)
    processor = BatchProcessor(blind, store=store, manager=manager)
    url = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    seen = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    lines = [
        request("plain"),
        request("tokens", logprobs=True, max_tokens=5),
        request("top", logprobs=True, top_logprobs=2, n=2, temperature=1.0, max_tokens=5),
        request("image", messages=[{"role": "user", "content": seen}]),
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = processor.prepare_requests(files.read(path)).start().wait(60)
    assert run.save(out) == out
    found = {one["custom_id"]: one for one in map(json.loads, out.read_text().splitlines())}
    assert list(found) == ["plain", "tokens", "top", "image"]
    (plain,) = found["plain"]["response"]["body"]["choices"]
    assert plain["logprobs"] is None
    (tokens,) = found["tokens"]["response"]["body"]["choices"]
    top = found["top"]["response"]["body"]["choices"]
    assert len(top) == 2
    for choice, num_top in ((tokens, 0), (top[0], 2), (top[1], 2)):
        content = choice["logprobs"]["content"]
        text = "".join(one["token"] for one in content)
        assert text.startswith(choice["message"]["content"])
        assert len(content) == 5
        assert all(one["logprob"] <= 0 for one in content)
        assert [len(one["top_logprobs"]) for one in content] == [num_top] * 5
    assert found["image"]["response"] is None
    assert "image" in found["image"]["error"]["message"]  # this model does not see
    frame = run.to_frame()
    assert not [name for name in frame.columns if "logprobs" in str(name)]
    # Nor are they among what is shown of a row, looked for, or changed by hand.
    for task in RunTasks(store, run.id).tasks(4, 6).values():
        assert set(task.values or {}) == {"reply"}
        assert task.outcome.probabilities is None
        assert task.outcome.logprobs


def test_what_cannot_come_is_kept_and_written_as_openai_does(store: Store) -> None:
    never = TokenLogprob(7, "x", float("-inf"), [TokenChance(8, "y", float("-inf"))])
    run = BatchRuns(store).create({}, [])
    tasks = RunTasks(store, run.id)
    tasks.add_rows(["[]"])
    tasks.save([(Outcome(number=0, status=TaskStatus.DONE, logprobs=[never]), "0" * 32)])
    (task,) = tasks.tasks(0, 1).values()
    assert task.outcome.logprobs == [never]
    assert task.outcome.probabilities is None


def test_a_schema_that_cannot_be_followed_fails_its_own_request(
    processor: BatchProcessor, tmp_path: Path
) -> None:
    path, out = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    schema = {"type": "object", "properties": {"x": {"$ref": "#/nowhere"}}}
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    lines = [request("a", response_format=wrong), request("b", max_tokens=3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    processor.prepare_requests(files.read(path)).start().wait(60).save(out)
    first, second = map(json.loads, out.read_text().splitlines())
    assert "'#/nowhere'" in first["error"]["message"]
    assert second["error"] is None


@pytest.mark.parametrize("part", [{"type": "input_audio"}, {"type": "file"}])
def test_what_cannot_be_done_fails_its_own_request(
    processor: BatchProcessor, tmp_path: Path, part: dict[str, str]
) -> None:
    path, out = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    lines = [request("a", messages=[{"role": "user", "content": [part]}]), request("b")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    processor.prepare_requests(files.read(path)).start().wait(60).save(out)
    first, second = map(json.loads, out.read_text().splitlines())
    assert part["type"] in first["error"]["message"]
    assert second["error"] is None


@pytest.mark.parametrize("problem", ["no_mmproj", "ends_with_image"])
def test_an_image_that_cannot_be_asked_about_fails_its_own_row(store: Store, problem: str) -> None:
    one = Bench(store, ["text", "picture", "more text"])

    def decide(text: str, _times: int) -> Reply | GgufWidgetsError:
        wrong = UnsupportedByModelError("Not this image.", problem=problem)
        return wrong if text == "picture" else reply(text)

    runner, model = one.run(decide)
    model.close()
    assert runner.progress().status is RunStatus.FINISHED
    assert one.texts_kept() == {0: "text", 1: None, 2: "more text"}
