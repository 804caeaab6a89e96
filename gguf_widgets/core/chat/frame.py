"""A conversation's messages as a pandas table; imported only when somebody asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gguf_widgets.core.chat.types import ChatMessage

__all__ = ["to_frame"]

_COLUMNS: dict[str, str] = {
    "role": "object",
    "content": "object",
    "status": "object",
    "finish_reason": "object",
    "created": "datetime64[ns, UTC]",
    "model": "object",
    "seed": "Int64",
    "num_prompt_tokens": "Int64",
    "num_cached_tokens": "Int64",
    "num_completion_tokens": "Int64",
    "ttft_s": "Float64",
    "total_s": "Float64",
    "decode_tok_per_s": "Float64",
    "error": "object",
    "id": "object",
    "parent_id": "object",
}


def to_frame(messages: Sequence[ChatMessage]) -> pd.DataFrame:
    """Return one row a message; see `ChatInterface.to_frame` for the columns."""
    rows = [_row(message) for message in messages]
    return pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=kind)
            for name, kind in _COLUMNS.items()
        }
    )


def _row(message: ChatMessage) -> dict[str, Any]:
    usage, timings = message.usage, message.timings
    return {
        "role": message.role,
        "content": message.content,
        "status": message.status.value,
        "finish_reason": message.finish_reason.value if message.finish_reason else None,
        "created": message.created,
        "model": message.model_name,
        "seed": message.seed,
        "num_prompt_tokens": usage.num_prompt_tokens if usage else None,
        "num_cached_tokens": usage.num_cached_tokens if usage else None,
        "num_completion_tokens": usage.num_completion_tokens if usage else None,
        "ttft_s": timings.ttft_s if timings else None,
        "total_s": timings.total_s if timings else None,
        "decode_tok_per_s": timings.decode_tok_per_s if timings else None,
        "error": message.error["message"] if message.error else None,
        "id": message.id,
        "parent_id": message.parent_id,
    }
