"""Sequences in any state, for tests of the policies."""

from __future__ import annotations

from gguf_widgets.core.engine.detokenizer import Detokenizer
from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.types import GenerateRequest, Priority


def sequence(
    order, client, num_tokens, num_computed=0, num_output=0, *, batch=False, **more
) -> Sequence:
    tokens = [1] * num_tokens
    request = GenerateRequest(
        request_id=str(order),
        client_id=client,
        prompt_tokens=tokens[: num_tokens - num_output],
        priority=Priority.BATCH if batch else Priority.INTERACTIVE,
    )
    return Sequence(
        request=request,
        order=order,
        tokens=tokens,
        max_output=100,
        seed=0,
        detokenizer=Detokenizer(),
        arrived=0.0,
        chunk_limit=more.pop("chunk_limit", 512),
        num_computed=num_computed,
        num_output=num_output,
        slot=order,
        **more,
    )
