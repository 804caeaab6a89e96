"""The tokens of an answer as one piece of bytes for the store.

Promises: what was packed is unpacked unchanged; what cannot be read is logged and read as nothing,
never fatal, and never more than `MAX_BYTES` of memory. Leaves to others: where it is kept.
"""

from __future__ import annotations

import logging
import zlib

import msgspec

from gguf_widgets.core.types import TokenLogprob

__all__ = ["MAX_BYTES", "KeptTokens", "pack", "unpack"]

MAX_BYTES = 256 * 2**20

# The quickest: the text of the answer waits meanwhile, and higher ones save only a tenth more.
_LEVEL = 1

_log = logging.getLogger(__name__)


class KeptTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of an answer, in order.

    The first `num_given` were not chosen by the model but given to it: those of an earlier answer
    that this one goes on from.
    """

    tokens: list[TokenLogprob]
    num_given: int = 0


def pack(kept: KeptTokens) -> bytes:
    """Return the bytes to keep."""
    return zlib.compress(msgspec.msgpack.encode(kept), _LEVEL)


def unpack(data: bytes) -> KeptTokens | None:
    """Return what was packed; None for what cannot be read."""
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(data, MAX_BYTES)
        # What is left over there would not have fitted; what there is cannot be read then.
        return msgspec.msgpack.decode(plain, type=KeptTokens)
    except (zlib.error, msgspec.DecodeError) as error:
        _log.warning("The store holds tokens of an answer that cannot be read: %s", error)
        return None
