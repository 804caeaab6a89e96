"""OpenAI's batch requests as a run: each has messages and settings of its own, and one result."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.batch import files
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from tests.batch.test_images import png


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
