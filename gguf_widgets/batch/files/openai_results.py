"""Results in the layout of OpenAI's batch interface.

Promises: one line for each request, under its custom_id, in the layout OpenAI documents for the
output file of a batch, so that what reads theirs reads ours: a request that was answered has a
response with status 200 and a chat completion, one that was not has an error and no response.
Leaves to others: asking (the batch run), requests (`openai_requests`).

The layout: https://platform.openai.com/docs/api-reference/batch/request-output (a line) and
https://platform.openai.com/docs/api-reference/chat/object (the completion), as of 2025. Ids are
made from the run's and the request's, so that the same result written twice is the same line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.new_file import new_file
from gguf_widgets.batch.files.writing import Written
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, WireError, to_wire
from gguf_widgets.core.types import FinishReason, Reply, TokenChance, TokenLogprob

__all__ = ["OpenAiResult", "result_line", "write_results"]

_FINISHED: Final = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class OpenAiResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one request.

    Attributes
    ----------
    custom_id : str
        The request's.
    model : str
        The name of the model that answered.
    replies : sequence of Reply
        One for each sample; of the request's ``n``.
    error : GgufWidgetsError, its wire form, or None
        Why there is no answer; then replies are not written.
    created_at : float
        When it was answered, in seconds since 1970.
    run_id : str
        The batch run's, for the ids.
    """

    custom_id: str
    model: str
    replies: Sequence[Reply] = ()
    error: GgufWidgetsError | WireError | None = None
    created_at: float = 0.0
    run_id: str = ""


def result_line(result: OpenAiResult) -> dict[str, Any]:
    """Return the line of one result, as plain data.

    Raises
    ------
    InvalidValueError
        It has neither replies nor an error.
    """
    mark = hashlib.blake2b(
        f"{result.run_id}\0{result.custom_id}".encode("utf-8", "replace"), digest_size=12
    ).hexdigest()
    line: dict[str, Any] = {"id": f"batch_req_{mark}", "custom_id": result.custom_id}
    error = _error(result)
    if error is not None:
        return {**line, "response": None, "error": error}
    if not result.replies:
        raise InvalidValueError(
            f"The result {result.custom_id!r:.80} has neither a reply nor an error."
        )
    prompt = result.replies[0].usage
    written = sum(reply.usage.num_completion_tokens for reply in result.replies)
    body = {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": int(result.created_at),
        "model": result.model,
        "choices": [_choice(place, reply) for place, reply in enumerate(result.replies)],
        # As OpenAI counts: the prompt once, whatever the number of samples.
        "usage": {
            "prompt_tokens": prompt.num_prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt.num_prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": prompt.num_cached_tokens},
        },
        "system_fingerprint": None,
    }
    response = {"status_code": 200, "request_id": f"req_{mark}", "body": body}
    return {**line, "response": response, "error": None}


def write_results(path: str | os.PathLike[str], results: Iterable[OpenAiResult]) -> Written:
    """Write results as they come, one a line; the file is there as a whole or not at all.

    Raises
    ------
    TableFileError
        It cannot be written. What was there before is untouched.
    """
    count = 0
    with new_file(path) as part:
        with part.open("wb") as file:
            for count, result in enumerate(results, 1):  # noqa: B007 - counts
                text = json.dumps(result_line(result), ensure_ascii=False, allow_nan=False)
                file.write(text.encode("utf-8", "replace") + b"\n")
        size = part.stat().st_size
    return Written(path=Path(path), format=Format.OPENAI, num_rows=count, num_bytes=size)


def _error(result: OpenAiResult) -> dict[str, str] | None:
    if result.error is not None:
        wire = to_wire(result.error) if isinstance(result.error, Exception) else result.error
        return {"code": wire["kind"], "message": wire["message"]}
    for reply in result.replies:
        if reply.finish_reason not in _FINISHED:
            return {
                "code": str(reply.finish_reason),
                "message": "The reply was stopped before it ended."
                if reply.finish_reason is FinishReason.ABORTED
                else "The reply failed before it ended.",
            }
    return None


def _choice(place: int, reply: Reply) -> dict[str, Any]:
    return {
        "index": place,
        "message": {"role": "assistant", "content": reply.text, "refusal": None},
        "logprobs": None
        if reply.logprobs is None
        else {"content": [_token(token) for token in reply.logprobs], "refusal": None},
        "finish_reason": _FINISHED[reply.finish_reason],
    }


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {**_chance(token), "top_logprobs": [_chance(one) for one in token.top]}


def _chance(token: TokenLogprob | TokenChance) -> dict[str, Any]:
    # Part of a character is shown as U+FFFD, and its bytes are not known here.
    known = "\ufffd" not in token.text
    return {
        "token": token.text,
        # JSON has no infinity; OpenAI writes this for a token that cannot be.
        "logprob": max(token.logprob, -9999.0),
        "bytes": list(token.text.encode("utf-8", "replace")) if known else None,
    }
