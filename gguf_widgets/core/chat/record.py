"""What is noted with each answer, so that it can be repeated and a difference be explained.

Promises: `record_of` costs about a millisecond when an answer begins, and `complete_record` some
milliseconds when it has ended: no file is read whole, and what is known of a file is kept while the
file stays the same. Neither ever raises: what could not be found out is None, and nothing is
claimed of it later. A record is plain JSON. Leaves to others: what is in other records too (the
program, the model: `core.record`), the text itself, its settings, system prompt and seed (they are
the message's own), and comparing (`repeat`).

The keys
--------
``format``
    1; what these keys mean.
``package``, ``engine``, ``engine_files``
    This package's version; llama-cpp-python's; a digest of its libraries' names and sizes, which
    tells two builds of one version apart.
``backend``, ``name``, ``size_bytes``, ``model``
    What ran it; the model's name, its file's size and a digest (`state_identity.ModelFiles`: the
    first megabyte, the last block and a thousand blocks between).
``template``, ``prompt``, ``num_prompt_tokens``
    Digests of the chat template and of the tokens that the model read (images by their content).
``opens_thinking``
    Whether the template had begun the thoughts, so that the answer begins in the middle of them.
``conversation``, ``num_images``
    A digest of the messages that the prompt was made of; how many images are in them.
``begin_tokens``
    The tokens that the answer was told to begin with, where it was tokens.
``load``
    The effective settings of loading that change numbers: `record.model_file.NUMBERS`.
``lora``, ``mmproj``
    A digest of each adapter with its scale, and of the image companion.
``processor``, ``system``
    The processor's name; the operating system.
``num_tokens_beside``
    How many tokens the model read or wrote for others in the meantime. Requests that run side by
    side are computed together, which changes the last digits of the probabilities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gguf_widgets.core.record.model_file import (
    about_companions,
    about_model,
    model_digest,
    template_digest,
)
from gguf_widgets.core.record.program import about_program
from gguf_widgets.core.record.tried import digest_of, tried
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.types import EngineStats, ImagePart, Reply

__all__ = ["complete_record", "digest_of_tokens", "record_of"]

FORMAT: Final = 1

_PASSING: Final = "$tokens_before"  # what `complete_record` takes out again
_ALONE: Final = -1  # nothing runs beside such a request


def record_of(
    model: Any,
    prompt_messages: Sequence[Any],
    settings: SamplingSettings,
    *,
    begin_with: str | Sequence[int] | None = None,
    tools: Sequence[Any] | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Note what an answer is about to be written with.

    Parameters
    ----------
    model : Model
        Or a fake that has at least `info` and `settings`.
    prompt_messages : sequence of Message
        What the chat template gets.
    settings : SamplingSettings
        Not noted, since the message holds it; only whether the request is computed by itself.
    begin_with : str or sequence of int, optional
    tools, template_variables : optional
        What the template gets besides.
    """
    record: dict[str, Any] = {"format": FORMAT}
    record |= tried(about_program) or {}
    record |= tried(about_model, model) or {}
    record["template"] = tried(template_digest, model)
    record["opens_thinking"] = tried(_opens_thinking, model)
    asked = [list(prompt_messages), list(tools or ()), dict(template_variables or {})]
    record["conversation"] = tried(digest_of, asked)
    record["num_images"] = tried(_num_images, prompt_messages)
    if begin_with is not None and not isinstance(begin_with, str):
        record["begin_tokens"] = [int(token) for token in begin_with]
    record[_PASSING] = _ALONE if settings.reproducible else tried(_tokens_so_far, model)
    return record


def complete_record(
    record: Mapping[str, Any],
    model: Any,
    prompt_messages: Sequence[Any],
    *,
    reply: Reply | None = None,
    begin_with: str | Sequence[int] | None = None,
    tools: Sequence[Any] | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Add what takes some milliseconds to find out, once the answer has ended.

    The weights have all been read for it just now, so that looking at a sample of them does not
    wait for a disk.

    Parameters
    ----------
    record : dict
        What `record_of` returned when it began.
    reply : Reply, optional
        What came of it, if it ended well.
    model, prompt_messages, begin_with, tools, template_variables
        As in `record_of`.
    """
    full = dict(record)
    before = full.pop(_PASSING, None)
    full["num_tokens_beside"] = tried(_beside, model, before, reply)
    full["model"] = tried(model_digest, model)
    full |= tried(about_companions, model) or {}
    more: dict[str, Any] = {}
    if begin_with is not None:
        more["begin_with"] = begin_with if isinstance(begin_with, str) else list(begin_with)
    if tools:
        more["tools"] = list(tools)
    if template_variables:
        more["template_variables"] = dict(template_variables)
    tokens = tried(_prompt_tokens, model, prompt_messages, more)
    full["prompt"] = digest_of_tokens(tokens) if tokens is not None else None
    full["num_prompt_tokens"] = len(tokens) if tokens is not None else None
    return full


def digest_of_tokens(tokens: Sequence[Any]) -> str:
    """Return a digest of `PromptToken`: what the model reads, and the same for the same only.

    An image has no token ids of its own; its text tells its number and size, and the digest of the
    conversation tells its content.
    """
    digest = hashlib.blake2b(digest_size=16)
    for one in tokens:
        digest.update(f"{one.token}\0".encode())
        if one.token < 0:
            digest.update(one.text.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest()


# -- what is found out ---------------------------------------------------------------------------


def _num_images(messages: Sequence[Any]) -> int:
    parts = [part for message in messages for part in message.get("parts", ())]
    return sum(isinstance(part, ImagePart) for part in parts)


def _opens_thinking(model: Any) -> bool:
    return bool(model.template_facts.opens_thinking)


def _prompt_tokens(model: Any, messages: Sequence[Any], more: Mapping[str, Any]) -> Any:
    return model.prompt_tokens(list(messages), **more)


def _tokens_so_far(model: Any) -> int:
    return _total(model.stats().engine)


def _beside(model: Any, before: int | None, reply: Reply | None) -> int | None:
    if before == _ALONE:
        return 0
    if before is None or reply is None:
        return None
    engine: EngineStats = model.stats().engine
    usage = reply.usage
    own = usage.num_prompt_tokens - usage.num_cached_tokens + usage.num_completion_tokens
    return max(0, _total(engine) - before - own)


def _total(engine: EngineStats) -> int:
    return engine.total_prompt_tokens + engine.total_completion_tokens
