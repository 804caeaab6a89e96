"""Random conversations with every field filled, for what must keep all of them.

Not a test and no fixture.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
from hypothesis import strategies as st

from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.types import (
    Attachment,
    ChatMessage,
    Conversation,
    MessageStatus,
    ToolCall,
)
from gguf_widgets.core.store.token_blob import KeptTokens
from gguf_widgets.core.types import (
    FinishReason,
    SamplingSettings,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.floats(0, 1e6)
MOMENT = st.floats(0, 4e9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FILES = (PNG, b"Buy milk.", b"")


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SAMPLING = st.builds(
    SamplingSettings,
    temperature=st.floats(0, 2),
    max_tokens=_optional(st.integers(1, 1000)),
    seed=_optional(st.integers(0, 2**32 - 2)),
    logit_bias=st.sampled_from(({}, {5: float("-inf")}, {7: 1.5, 9: -2.0})),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=2).map(tuple),
)
USAGE = st.builds(
    Usage,
    num_prompt_tokens=st.integers(0, 9999),
    num_completion_tokens=st.integers(0, 9999),
)
TIMINGS = st.builds(
    Timings,
    queue_s=NUMBER,
    prefill_s=NUMBER,
    decode_s=NUMBER,
    ttft_s=_optional(NUMBER),
    total_s=NUMBER,
    decode_tok_per_s=_optional(NUMBER),
)
CALL = st.builds(
    ToolCall,
    id=TEXT,
    name=st.text("abc", min_size=1, max_size=9),
    arguments=OBJECT,
    status=st.sampled_from(("done", "failed", "declined")),
    result=_optional(TEXT),
    error=_optional(TEXT),
    total_s=_optional(NUMBER),
    printed=TEXT,
)
TOKEN = st.builds(
    TokenLogprob,
    token=st.integers(-1, 200_000),
    text=TEXT,
    logprob=st.floats(-100, 0),
    top=st.lists(
        st.builds(TokenChance, token=st.integers(0, 9), text=TEXT, logprob=st.just(float("-inf"))),
        max_size=2,
    ),
)


@st.composite
def _attachments(draw: st.DrawFn) -> tuple[Attachment, ...]:
    chosen = draw(st.lists(st.sampled_from(FILES), max_size=2, unique=True))
    return tuple(
        Attachment(
            id=draw(TEXT),
            kind=draw(st.sampled_from(("image",) if data == PNG else ("text", "pdf"))),
            name=draw(TEXT),
            mime=draw(st.sampled_from(("image/png", "text/plain", "image/svg+xml"))),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            text=draw(_optional(TEXT)),
            num_tokens=draw(_optional(st.integers(0, 99))),
            note=draw(TEXT),
        )
        for data in chosen
    )


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Return random trees with at least one message, parents before their children."""
    count = draw(st.integers(1, 6))
    messages: list[ChatMessage] = []
    for number in range(count):
        parents = [None, *(one.id for one in messages)]
        role = draw(st.sampled_from(("user", "assistant")))
        error = {"kind": "DecodeError", "message": draw(TEXT), "details": draw(OBJECT)}
        messages.append(
            ChatMessage(
                id=f"m{number}",
                conversation_id="c",
                parent_id=draw(st.sampled_from(parents)),
                role=role,
                content=draw(TEXT),
                status=draw(st.sampled_from([one for one in MessageStatus if one != "streaming"])),
                created_at=draw(MOMENT),
                finish_reason=draw(_optional(st.sampled_from(list(FinishReason)))),
                usage=draw(_optional(USAGE)),
                timings=draw(_optional(TIMINGS)),
                error=draw(st.none() | st.just(error)),
                model_name=draw(_optional(TEXT)),
                model=draw(_optional(OBJECT)),
                sampling=draw(_optional(SAMPLING)),
                seed=draw(_optional(st.integers(0, 2**32 - 1))),
                system=draw(_optional(TEXT)),
                model_type=draw(_optional(TEXT)),
                begin=draw(TEXT),
                thinking_s=draw(_optional(NUMBER)),
                attachments=draw(_attachments()),
                tool_calls=tuple(draw(st.lists(CALL, max_size=2))),
                left_out=tuple(draw(st.lists(st.sampled_from(["gone", "m0"]), max_size=2))),
                summary=draw(_optional(TEXT)),
                edited=draw(st.booleans()),
                record=draw(_optional(OBJECT)),
            )
        )
    answers = [one.id for one in messages if one.role == "assistant"]
    kept = st.builds(
        KeptTokens, tokens=st.lists(TOKEN, min_size=1, max_size=3), num_given=st.integers(0, 1)
    )
    conversation = Conversation(
        id="c",
        title=draw(TEXT),
        system=draw(_optional(TEXT)),
        model_type=draw(TEXT),
        model_name=draw(_optional(TEXT)),
        model=draw(_optional(OBJECT)),
        active_leaf_id=draw(st.sampled_from(messages)).id,
        created_at=draw(MOMENT),
        updated_at=draw(MOMENT),
        pinned=draw(st.booleans()),
    )
    named = {one.sha256 for message in messages for one in message.attachments}
    return Tree(
        conversation=conversation,
        messages=messages,
        files={
            digest: data for data in FILES if (digest := hashlib.sha256(data).hexdigest()) in named
        },
        tokens={one: draw(kept) for one in answers if draw(st.booleans())},
        settings=draw(st.none() | st.dictionaries(TEXT, JSON, min_size=1, max_size=3)),
    )


def without_ids(tree: Tree) -> Any:
    """Return everything of a tree but its ids, which an import makes anew: places instead."""
    places = {message.id: number for number, message in enumerate(tree.messages)}
    plain = msgspec.to_builtins(tree)
    for message in plain["messages"]:
        message["id"] = places[message["id"]]
        message["parent_id"] = places.get(message["parent_id"])
        message["left_out"] = [places.get(one, one) for one in message["left_out"]]
        message["conversation_id"] = "c"
        for call in message["tool_calls"]:
            call["id"] = "k"
    conversation = plain["conversation"]
    conversation["id"] = "c"
    conversation["active_leaf_id"] = places.get(conversation["active_leaf_id"])
    plain["tokens"] = {places[name]: tokens for name, tokens in plain["tokens"].items()}
    return plain
