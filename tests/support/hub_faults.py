"""What a made-up hub holds, and how its answers may be wrong: plain facts for `hub_server`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class Fault:
    """How some answers differ from what they should be; the first that matches is used.

    Attributes
    ----------
    where : {"api", "resolve", "cdn", "web"}
    match : str
        A part of the path.
    times : int
        How many answers.
    status, headers : optional
        Answer with this, and nothing else.
    location : str, optional
        Lead there.
    cut_after : int, optional
        Close the connection after so many bytes of the body.
    stall_s : float
        Before closing, or before the first byte.
    content : bytes, optional
        Send this as the file.
    total : int, optional
        Lie about the whole length, in each header that has it.
    chunked : bool
        Announce no length.
    no_ranges, no_validators : bool
    etag : str, optional
    ignore_if_range : bool
    shift : int
        Answer with bytes from so much later in the file than was asked for.
    pace_s : float
        Wait so long between two pieces of 16 KiB.
    """

    where: str = "cdn"
    match: str = ""
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    location: str | None = None
    cut_after: int | None = None
    stall_s: float = 0.0
    content: bytes | None = None
    total: int | None = None
    chunked: bool = False
    no_ranges: bool = False
    no_validators: bool = False
    etag: str | None = None
    ignore_if_range: bool = False
    shift: int = 0
    pace_s: float = 0.0


@dataclasses.dataclass
class FakeRepo:
    """A repository of the hub."""

    files: dict[str, bytes]
    license: str = "apache-2.0"
    gated: str | bool = False
    token: str | None = None
    small: frozenset[str] = frozenset()
    lies: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, data in sorted(self.files.items()):
            digest.update(path.encode() + hashlib.sha256(data).digest())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    where: str
    method: str
    path: str
    headers: dict[str, str]
