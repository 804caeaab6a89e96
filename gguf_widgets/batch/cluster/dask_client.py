"""The only part of a cluster run that talks with Dask.

Promises: a letter to a machine is one Dask task, pinned to it, that Dask never carries out
elsewhere; one that waits leaves its thread to others; every call has a time limit; Dask's own
errors come as `NoAnswerError` with a sentence. Leaves to others: what letters say (`messages`),
when a machine is taken for lost (`machine`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Final

from gguf_widgets.batch.cluster import distributed, station

__all__ = ["DaskClient", "NoAnswerError", "Sent"]

RESULT_S: Final = 15.0  # for what a machine has answered to come here
LOOK_S: Final = 5.0  # for the scheduler to say which machines there are

_LOST: Final = "The connection to the cluster was lost."


class NoAnswerError(Exception):
    """The cluster, or one machine of it, did not answer; the message is a sentence for a person.

    It stays inside this package: a run goes on without one machine.
    """


def answer(data: bytes, *, waits: bool) -> bytes:
    """On a machine: answer a letter."""
    if waits:  # others' tasks, and our own next letter, have this thread meanwhile
        distributed().secede()
    return station.exchange(data)


def identify() -> bytes:
    """On a machine: say who it is."""
    return station.identify(str(distributed().get_worker().name))


class Sent:
    """A task that is on its way to a machine.

    Parameters
    ----------
    future : distributed.Future
    """

    def __init__(self, future: Any) -> None:
        self._future = future

    def when_done(self, call: Callable[[], None]) -> None:
        """Have `call` called, in a thread of Dask's, when it has ended; it must return at once."""
        self._future.add_done_callback(lambda _future: call())

    @property
    def is_done(self) -> bool:
        """Whether it has ended, one way or another."""
        return bool(self._future.done())

    def result(self) -> object:
        """Return what the machine answered; it must have ended.

        Raises
        ------
        NoAnswerError
            It failed.
        """
        # A client that has been closed cannot be asked: Dask's own question would be left over, and
        # what it raises then says nothing (UnboundLocalError).
        if self._future.client.status in ("closing", "closed"):
            self.drop()
            raise NoAnswerError(_LOST)
        try:
            return self._future.result(timeout=RESULT_S)
        except CancelledError as error:
            raise NoAnswerError(_LOST) from error
        except Exception as error:  # whatever the machine, or Dask, raised
            raise NoAnswerError(_words(error)) from error
        finally:
            self.drop()

    def drop(self) -> None:
        """Forget it; what it may still answer goes nowhere."""
        # A client that has closed, or lost its scheduler, has forgotten it already.
        with contextlib.suppress(Exception):
            self._future.release()


class DaskClient:
    """A person's client, as the run uses it.

    Parameters
    ----------
    client : distributed.Client
    run_id : str
        For the names of the tasks, which Dask's dashboard shows.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run = run_id[:8]

    @property
    def state(self) -> str:
        """How it is connected: "running", "connecting" to a scheduler that has gone, "closed"."""
        return str(self._client.status)

    @property
    def scheduler(self) -> str:
        """The scheduler's address, for sentences."""
        return str(getattr(self._client.scheduler, "address", "the cluster"))

    def machines(self) -> list[str]:
        """Return the addresses of all Dask workers.

        Raises
        ------
        NoAnswerError
            The scheduler does not answer.
        """
        try:
            found = self._client.sync(
                self._client.scheduler.ncores, workers=None, callback_timeout=LOOK_S
            )
        except CancelledError as error:
            raise NoAnswerError(_LOST) from error
        except Exception as error:  # whatever Dask raises
            raise NoAnswerError(_words(error)) from error
        return [str(address) for address in found]

    def version(self, address: str) -> Sent:
        """Ask a machine which version of this package it has; see `send`.

        Nothing of this package travels with it: a Dask worker that is sent what it cannot load
        loses its connection, and says nothing.
        """
        return self._submit(address, "version", importlib.metadata.version, "gguf-widgets")

    def identify(self, address: str) -> Sent:
        """Ask a machine who it is; see `send`."""
        return self._submit(address, "identify", identify)

    def send(self, address: str, letter: bytes, *, waits: bool) -> Sent:
        """Send a letter to a machine.

        Raises
        ------
        NoAnswerError
            The client is closed.
        """
        return self._submit(address, "ask", answer, letter, waits=waits)

    def _submit(self, address: str, what: str, call: Any, *given: Any, **named: Any) -> Sent:
        try:
            return Sent(
                self._client.submit(
                    call,
                    *given,
                    **named,
                    key=f"gguf-widgets-{what}-{self._run}-{uuid.uuid4().hex}",
                    workers=[address],
                    allow_other_workers=False,
                    pure=False,
                    retries=0,
                )
            )
        except Exception as error:  # whatever Dask raises
            raise NoAnswerError(_words(error)) from error


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "There was no answer in time."
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(".") + "."
