"""Files of conversations with one value in one place that some part cannot carry.

Not a test and no fixture.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from support.chat_trees import PNG

from gguf_widgets.core.chat.export import json_form

MARK = "@@here@@"
DEEP = "[" * 600 + "]" * 600

# Each is the text of a JSON value that one part or another cannot carry.
HOSTILE = {
    "infinite": "1e999",
    "named infinite": '"inf"',
    "no number": '"nan"',
    "over 64 bits": "1" + "0" * 30,
    "4,000 digits": "1" + "0" * 4000,
    "below zero": "-5",
    "deep": DEEP,
    "deep object": '{"a":' * 600 + "1" + "}" * 600,
    "names of arguments": '{"message": "x", "self": 1, "kind": 2}',
    "half a character": '"a\\ud800b"',
    "a zero": '"a\\u0000b"',
}


def document() -> dict[str, Any]:
    """Return a file with every field that a message has."""
    digest = hashlib.sha256(PNG).hexdigest()
    image = {
        "id": "f", "kind": "image", "name": "n.png", "mime": "image/png", "size_bytes": len(PNG),
        "sha256": digest, "text": None, "num_tokens": 3, "note": "x",
    }  # fmt: skip
    call = {
        "id": "c1", "name": "add", "arguments": {"a": 1}, "status": "done", "result": "1",
        "error": None, "total_s": 1.5, "always": True, "printed": "hi",
    }  # fmt: skip
    error = {"kind": "DecodeError", "message": "m", "details": {"path": "/x", "choices": [1]}}
    ended = {"created_at": 1.0, "conversation_id": "x", "status": "complete"}
    return {
        "format": json_form.FORMAT,
        "version": 1,
        "conversation": {
            "id": "x", "title": "T", "system": "S", "model_type": "text", "model_name": "m",
            "model": {"path": "/p", "size_bytes": 5}, "active_leaf_id": "a1", "created_at": 1.0,
            "updated_at": 2.0,
        },
        "settings": {"preset": "text", "sampling": {"temperature": 0.5}},
        "messages": [
            {**ended, "id": "u1", "parent_id": None, "role": "user", "content": "hello",
             "attachments": [image]},
            {**ended, "id": "a1", "parent_id": "u1", "role": "assistant", "content": "b",
             "usage": {"num_prompt_tokens": 1, "num_completion_tokens": 2},
             "timings": {"queue_s": 0.1, "prefill_s": 0.1, "decode_s": 0.1, "ttft_s": 0.1,
                         "total_s": 0.3, "decode_tok_per_s": 3.0},
             "error": error, "model": {"path": "/p", "size_bytes": 5, "quantization": "Q"},
             "sampling": {"temperature": 0.5, "schema": {"type": "string"}}, "seed": 3,
             "thinking_s": 1.0, "tool_calls": [call], "left_out": ["z"], "summary": "s",
             "record": {"opens_thinking": True, "x": 1}},
        ],
        "files": {digest: base64.b64encode(PNG).decode()},
        "tokens": {"a1": {"tokens": [[5, "b", -0.5, [[5, "b", -0.5]]]], "num_given": 0}},
    }  # fmt: skip


def _places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from _places(inner, (*here, key))


def hostile_texts() -> Iterator[tuple[str, str]]:
    """Yield what each text does, and a file with one hostile value in one place."""
    whole = document()
    for place in _places(whole):
        if place[0] in ("format", "version"):
            continue
        changed = copy.deepcopy(whole)
        inner: Any = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = MARK
        text = json.dumps(changed)
        for name, value in HOSTILE.items():
            yield f"{name} at {place}", text.replace(json.dumps(MARK), value)
