"""What a run and a machine of its cluster say to each other.

Promises: plain values as MessagePack, of these classes and no others, of a bounded size; what does
not have this form is refused with a `ProtocolError`. Leaves to others: how they travel
(`dask_client`), what they mean (`station`, `machine`).

A run sends a `Letter` and gets a `Report`. The first letter to a machine carries the `Job`; each
one may carry questions, and each report the answers that have come since the last. A letter may be
waited with: then its report comes when there is something to tell.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeVar

import msgspec

from gguf_widgets.core.errors import ProtocolError
from gguf_widgets.core.settings import Value
from gguf_widgets.core.types import Message, Reply, SamplingSettings

__all__ = [
    "MAX_BYTES",
    "PROTOCOL",
    "Answered",
    "Asking",
    "Fault",
    "Identity",
    "Job",
    "Letter",
    "ModelFile",
    "Report",
    "decode",
    "encode",
]

PROTOCOL: Final = 1
MAX_BYTES: Final = 64 << 20
_T = TypeVar("_T")


class Identity(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who a Dask worker is.

    Attributes
    ----------
    version : str
        Of gguf-widgets.
    protocol : int
    machine : str
        The same for all workers that share one model process: a digest of host, user and folders.
    host, name : str
        The host's name, and the Dask worker's.
    pid : int
    """

    version: str
    protocol: int
    machine: str
    host: str
    name: str
    pid: int


class ModelFile(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that a machine needs: the same bytes as here.

    Attributes
    ----------
    path : str
        Where it is here.
    sha256 : tuple of str
        Of each part; one, unless the model is split.
    size : int
        In bytes, all parts together.
    given : str or None
        Where a person says that it is on that machine.
    fetch : str or None
        Where it can be downloaded from.
    """

    path: str
    sha256: tuple[str, ...]
    size: int
    given: str | None = None
    fetch: str | None = None


class Job(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine is to have ready.

    Attributes
    ----------
    run_id, name : str
        For logs and messages.
    model : ModelFile
    adapters : tuple of (ModelFile, float)
        With each one's scale.
    companion : ModelFile or None
        The projector (mmproj) that the model sees with.
    settings : dict
        `LoadSettings` by name, without files and without the chat template.
    chat_template : str or None
    backend : str
    lease_s : float
        After so long without a letter the run is taken for gone.
    """

    run_id: str
    name: str
    model: ModelFile
    adapters: tuple[tuple[ModelFile, float], ...] = ()
    companion: ModelFile | None = None
    settings: dict[str, Any] = {}
    chat_template: str | None = None
    backend: str | None = None
    lease_s: float = 30.0


class Asking(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question; `number` is the run's, once for each time that it is asked."""

    number: int
    messages: list[Message]
    sampling: SamplingSettings


class Letter(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the run to a machine.

    Attributes
    ----------
    station : str
        What the run calls its part of that machine: drawn by lot.
    job : Job or None
        With the first letter.
    ask : list of Asking
    stop : list of int
        Questions that are taken back.
    wait_s : float
        How long the report may wait until there is something to tell.
    close : bool
        The run needs the machine no more.
    """

    station: str
    job: Job | None = None
    ask: list[Asking] = []
    stop: list[int] = []
    wait_s: float = 0.0
    close: bool = False


class Fault(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of `core.errors`, as `to_wire` makes it."""

    kind: str
    message: str
    details: dict[str, Any] = {}


class Answered(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a question: a reply or an error."""

    number: int
    reply: Reply | None = None
    error: Fault | None = None


class Report(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a machine to the run.

    Attributes
    ----------
    state : {"loading", "ready", "failed", "unknown"}
        "failed": `error` says why, and the machine does no more. "unknown": it has no such station
        (any more).
    phrase, fraction : str, float
        While it loads: what it is at, and how far.
    room : int
        How many questions it may have at a time.
    answered : list of Answered
    has_more : bool
        More answers are waiting than one report takes.
    """

    state: Literal["loading", "ready", "failed", "unknown"]
    phrase: str = ""
    fraction: float = 0.0
    room: int = 0
    answered: list[Answered] = []
    has_more: bool = False
    error: Fault | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """Return a message as bytes."""
    return _ENCODER.encode(message)


def decode(data: object, kind: type[_T]) -> _T:
    """Return the message of a kind that some bytes are.

    Raises
    ------
    ProtocolError
        They are none, or too many.
    """
    if not isinstance(data, bytes) or len(data) > MAX_BYTES:
        size = f" of {len(data):,} bytes" if isinstance(data, bytes) else ""
        raise ProtocolError(f"A {type(data).__name__}{size} came where a message was expected.")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError(f"What came is no {kind.__name__}: {error}.") from error
