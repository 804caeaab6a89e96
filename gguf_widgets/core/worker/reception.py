"""Who is let in, and what a visitor is shown.

Promises: nobody gets further than a Hello without the version and the proof; a visitor (a Hello
that only peeks) gets the worker's figures within a quarter of a second, also while a step of the
engine takes minutes: then they are those from before the step, and say so. Leaves to others: the
list of clients and the worker's states (`server`).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from collections.abc import Callable, Mapping

import gguf_widgets
from gguf_widgets.core.errors import ProtocolError, to_wire
from gguf_widgets.core.types import EngineStats
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.connection import ClientConnection
from gguf_widgets.core.worker.engine_thread import EngineThread
from gguf_widgets.core.worker.proof import proof_of
from gguf_widgets.core.worker.requests import Requests

__all__ = ["Reception", "current_figures", "described"]

# What an engine that is in the middle of a step is given to come to its end.
_FIGURES_WITHIN_S = 0.2


class Reception:
    """Checks a Hello and makes the answer.

    Parameters
    ----------
    backend : str
        Named in every Welcome.
    secret : str
        What clients must prove to know; "" for none.
    """

    def __init__(self, backend: str, secret: str) -> None:
        self._backend = backend
        self._secret = secret

    def refusal(self, message: protocol.Hello) -> ProtocolError | None:
        """Return why this Hello is refused, or None."""
        if message.protocol_version != protocol.PROTOCOL_VERSION:
            return protocol.version_mismatch(message.protocol_version, message.package_version)
        if self._secret and not hmac.compare_digest(
            message.proof.encode(),
            proof_of(self._secret, "client", message.nonce).encode(),
        ):
            return ProtocolError("The client did not prove that it belongs to this user.")
        return None

    def refused(self, error: ProtocolError) -> protocol.Refused:
        """Return the message that says so."""
        return protocol.Refused(
            protocol_version=protocol.PROTOCOL_VERSION,
            package_version=gguf_widgets.__version__,
            error=to_wire(error),
        )

    def welcome(self, message: protocol.Hello, client_id: str) -> protocol.Welcome:
        """Return the answer to a Hello that is not refused."""
        proof = proof_of(self._secret, "worker", message.nonce) if self._secret else ""
        return protocol.Welcome(
            protocol_version=protocol.PROTOCOL_VERSION,
            package_version=gguf_widgets.__version__,
            client_id=client_id,
            pid=os.getpid(),
            backend=self._backend,
            proof=proof,
        )


def described(
    clients: Mapping[str, ClientConnection], requests: Requests | None
) -> list[protocol.ClientInfo]:
    """Return who is connected, in the words of each."""
    now = time.monotonic()
    return [
        protocol.ClientInfo(
            client_id=client_id,
            pid=connection.pid,
            program=connection.program,
            num_requests=requests.num_open(client_id) if requests is not None else 0,
            connected_s=now - connection.connected_at,
        )
        for client_id, connection in clients.items()
    ]


def current_figures(
    engine: EngineThread, deliver: Callable[[EngineStats | None, float], None]
) -> None:
    """Get the engine's figures and their age; `deliver` is called once, on the running loop."""
    loop = asyncio.get_running_loop()
    given = False

    def give(stats: EngineStats | None, age_s: float) -> None:
        nonlocal given
        if not given:
            given = True
            late.cancel()
            deliver(stats, age_s)

    def give_older() -> None:
        noted = engine.noted_stats
        if noted is None:
            give(None, 0.0)
        else:
            give(noted[0], time.monotonic() - noted[1])

    def answer(stats: EngineStats) -> None:  # on the engine's thread
        try:
            loop.call_soon_threadsafe(give, stats, 0.0)
        except RuntimeError:
            return  # the loop has ended, and every visitor with it

    late = loop.call_later(_FIGURES_WITHIN_S, give_older)
    engine.stats(answer)
