"""The base of the messages between a client and a worker."""

from __future__ import annotations

import msgspec

__all__ = ["Message"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the messages; the tag is the class's name."""
