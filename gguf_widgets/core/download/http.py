"""One request over HTTP: whom to ask, where it may lead, when to try again.

Promises: no plain http but to this machine or to a mirror that the person has set up so; a
redirection is followed only to https, and what says who you are never goes along to another host;
every wait is bounded; a stop ends a read that is under way. Leaves to others: the bytes
(`transfer`), what is asked for (`hub`, `from_web`).

httpx does the speaking, and for the hub the session of huggingface_hub itself (an httpx client, or
an httpx2 one from its version 2 on: the same calls), so that its proxies, certificates and offline
switch count. Chosen over ``urllib`` of the standard library for its separate limits on connecting
and reading, its proxies and certificates without code of ours, and because it says how a connection
ended: an answer that is shorter than announced is an error there and never a short file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import random
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from gguf_widgets.core.download.names import host_is_loopback
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.errors import DownloadError, MissingDependencyError
from gguf_widgets.core.format import format_duration, plain_text

__all__ = [
    "INSTALL_LINE",
    "Patience",
    "Retries",
    "Source",
    "bad_address",
    "bad_address_errors",
    "explain",
    "gated",
    "opened",
    "refuse_redirect",
    "refuse_status",
    "retry_after_s",
    "transport_errors",
    "web_session",
]

INSTALL_LINE: Final = 'pip install "gguf-widgets[download]"'

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 10
_AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)
_SECRET_HEADERS: Final = ("authorization", "cookie")
_PORTS: Final = {"http": 80, "https": 443}
# The hub's own way to say how long its limit holds: `"api";r=0;t=55`.
_RATE_LIMIT: Final = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and how often to try again.

    Attributes
    ----------
    connect_s, read_s : float
        For a connection, and for the next bytes of an answer.
    tries : int
        In a row that brought nothing.
    first_wait_s, longest_wait_s : float
        Between two tries: the first one, doubled each time, up to the longest.
    longest_retry_after_s : float
        A server that asks for a longer pause than this is left alone, and the person is told.
    """

    connect_s: float = 15.0
    read_s: float = 30.0
    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    longest_retry_after_s: float = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from.

    Attributes
    ----------
    url : str
        Asked anew for each try: an address to which it leads may hold for minutes only.
    session : callable
        Returns the httpx client to ask with.
    headers : mapping, optional
        Such as who you are; never sent to another host.
    shown : str
        The server, in sentences.
    of_hub : bool
        Whether it is the hub, whose refusals mean more than a server's.
    repo : str
        The repository, in sentences, if it is the hub.
    """

    url: str
    session: Callable[[], Any]
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shown: str = ""
    of_hub: bool = False
    repo: str = ""


class Retries:
    """Counts tries that brought nothing, and waits between them.

    Parameters
    ----------
    patience : Patience
    job : Job
    shown : str
        The server, in sentences.
    """

    def __init__(self, patience: Patience, job: Job, shown: str) -> None:
        self._patience = patience
        self._job = job
        self._shown = shown
        self._failed = 0

    def progressed(self) -> None:
        """Forget the failures: something has arrived since."""
        self._failed = 0

    def failed(
        self, why: str, *, problem: str, after_s: float | None = None, cause: BaseException | None
    ) -> None:
        """Wait for the next try.

        Raises
        ------
        DownloadError
            If it has been tried often enough, or the server wants a longer pause than is allowed.
        """
        self._job.check()
        self._failed += 1
        asked_too_much = after_s is not None and after_s > self._patience.longest_retry_after_s
        if self._failed >= self._patience.tries or asked_too_much:
            if asked_too_much and after_s is not None:
                then = f"It asks to be left alone for {format_duration(after_s)}; try again then."
            else:
                then = (
                    f"That was so {self._failed} times in a row. Check your connection and try "
                    "again later; a download goes on where it stopped."
                )
            raise DownloadError(
                f"{self._shown} {why}. {then}",
                problem=problem,
                retry_after_s=after_s,
            ) from cause
        wait = min(
            self._patience.longest_wait_s, self._patience.first_wait_s * 2 ** (self._failed - 1)
        )
        # Spread a little, so that many who were cut off together do not come back together.
        wait *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        self._job.turn("waiting")
        self._job.sleep(max(wait, after_s or 0.0))


def web_session(patience: Patience) -> Any:
    """Return an httpx client for files on the web; it reads the proxies of the environment.

    Raises
    ------
    MissingDependencyError
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingDependencyError(
            f"Fetching files from the web needs the package httpx. Install it: {INSTALL_LINE}",
            install=INSTALL_LINE,
        ) from error
    from gguf_widgets import __version__

    return httpx.Client(
        headers={"user-agent": f"gguf-widgets/{__version__}"},
        timeout=(patience.connect_s, patience.read_s, patience.read_s, patience.connect_s),
        follow_redirects=False,
    )


def transport_errors() -> tuple[type[BaseException], ...]:
    """Return the classes by which a client of this process says that a connection failed."""
    modules = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (*(m.TransportError for m in modules if m is not None), ConnectionError, TimeoutError)


def bad_address_errors() -> tuple[type[BaseException], ...]:
    """Return the classes by which a client says that an address is none."""
    modules = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return tuple(m.InvalidURL for m in modules if m is not None)


@contextlib.contextmanager
def opened(
    source: Source,
    headers: Mapping[str, str],
    patience: Patience,
    job: Job,
) -> Iterator[tuple[Any, bool]]:
    """Ask for a file and follow where that leads; the body is not read yet.

    Yields
    ------
    response
        The client's own; of any status but a redirection.
    elsewhere : bool
        Whether another host answered than the one that was asked.

    Raises
    ------
    DownloadError
        For a redirection that is not followed. Errors of the transport come as they are.
    """
    url = source.url
    send = {"accept": "*/*", "accept-encoding": "identity", **source.headers, **headers}
    limits = (patience.connect_s, patience.read_s, patience.read_s, patience.connect_s)
    for _ in range(_MOST_REDIRECTS + 1):
        job.check()
        request = source.session().stream(
            "GET", url, headers=send, timeout=limits, follow_redirects=False
        )
        with _begun(request, job) as response:
            if response.status_code not in _REDIRECTS:
                with _stopped_with(job, response):
                    yield response, _origin(url) != _origin(source.url)
                return
            location = response.headers.get("location", "")
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""  # which is refused
        refuse_redirect(source, url, target)
        if _origin(target) != _origin(url):
            send = {k: v for k, v in send.items() if k.lower() not in _SECRET_HEADERS}
        url = target
    raise DownloadError(
        f"{source.shown} leads from one address to the next more than {_MOST_REDIRECTS} times. "
        "Look for another address.",
        problem="redirect",
    )


def refuse_redirect(source: Source, url: str, target: str) -> None:
    """Raise unless a redirection may be followed.

    Raises
    ------
    DownloadError
        ``problem`` is "redirect".
    """
    try:
        parts = urlsplit(target)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        parts, host = urlsplit(""), ""
    start = urlsplit(source.url)
    if parts.scheme == "https" and host:
        return
    # From plain http to plain http is nothing lost, where the person set it up so: a mirror of the
    # hub, or a server on this machine. From elsewhere to this machine is no one else's business.
    if parts.scheme == "http" and host and start.scheme == "http":
        if host_is_loopback(host) and host_is_loopback(start.hostname or ""):
            return
        here = host_is_loopback(host) or host_is_loopback(start.hostname or "")
        if source.of_hub and not here:
            return
    raise DownloadError(
        f"{source.shown} leads to {plain_text(target.partition('?')[0], 120) or 'nowhere'}, which "
        "is not followed: it is not https. Nothing was fetched from there. Look for another "
        "address.",
        problem="redirect",
        url=plain_text(url.partition("?")[0], 200),
    )


def refuse_status(source: Source, response: Any, *, elsewhere: bool, retries: Retries) -> bool:
    """Judge an answer's status: True if the body may be read, False to try again.

    Raises
    ------
    DownloadError
        If it is a refusal, or was tried often enough.
    """
    status = int(response.status_code)
    if status in (200, 206, 416):
        return True
    code = response.headers.get("x-error-code", "")
    name = source.shown
    if status in _AGAIN:
        busy = "is too busy (429)" if status == 429 else f"answered with the error {status}"
        retries.failed(
            busy, problem="server_busy", after_s=retry_after_s(response.headers), cause=None
        )
        return False
    if elsewhere and source.of_hub and status in (401, 403):
        # The hub's address for the bytes themselves holds for a limited time: ask for a new one.
        retries.failed(f"refused the bytes ({status})", problem="not_allowed", cause=None)
        return False
    if code == "GatedRepo" or (source.of_hub and status in (401, 403)):
        raise gated(source.repo or source.shown)
    if status in (401, 403, 407, 451):
        raise DownloadError(
            f"{name} does not let you have this file ({status}). It may need a login, which a "
            "plain address cannot do: download it in your browser.",
            problem="not_allowed",
            status=status,
        )
    if status in (404, 410):
        raise DownloadError(
            f"{name} has no such file ({status}). Check the address.",
            problem="not_found",
            status=status,
        )
    raise DownloadError(
        f"{name} answered with the status {status}, which no file comes with. Check the address.",
        problem="server",
        status=status,
    )


def bad_address(source: Source) -> DownloadError:
    """Return the error for a server that leads to an address which is none."""
    return DownloadError(
        f"{source.shown} leads to an address that is none. Look for another one.",
        problem="redirect",
    )


def gated(repo: str) -> DownloadError:
    """Return the error for a repository that one has to be admitted to."""
    return DownloadError(
        f"{repo} is not open to everyone, or not there for you. Accept its conditions on its page "
        'if it has any, then log in with "hf auth login" (or set HF_TOKEN) and try again.',
        problem="gated",
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a server wants to be left alone, or None."""
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    if limit is not None:
        return float(limit[1])
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, then - time.time())


def explain(error: BaseException) -> tuple[str, bool]:
    """Return what went wrong with a connection, in words, and whether to try again."""
    if type(error).__name__ == "OfflineModeIsEnabled":  # of huggingface_hub, which may be missing
        return "is not asked, because HF_HUB_OFFLINE is set", False
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return (
                f"cannot be trusted: {plain_text(seen.verify_message or str(seen), 120)}",
                False,
            )
        if isinstance(seen, socket.gaierror):
            return "cannot be found: its name is not known here, or there is no connection", True
        if isinstance(seen, ConnectionRefusedError):
            return "cannot be reached: nothing answers there", True
        seen = seen.__cause__ or seen.__context__
    if "Timeout" in type(error).__name__ or isinstance(error, TimeoutError):
        return "did not answer in time", True
    return "ended the connection too early", True


@contextlib.contextmanager
def _begun(request: contextlib.AbstractContextManager[Any], job: Job) -> Iterator[Any]:
    """Send a request and wait for its answer to begin; a stop does not wait any longer.

    Looking up a name, connecting and waiting for an answer cannot be ended from outside, so they
    are done by a thread that is left behind if need be. It ends by the limits that it was given.
    """
    lock, ready = threading.Lock(), threading.Event()
    answers: list[Any] = []
    errors: list[BaseException] = []
    left_behind = False

    def begin() -> None:
        try:
            answer = request.__enter__()
        except RuntimeError as error:
            # The session is huggingface_hub's, and shared: another thread whose connection failed
            # has had it closed just now. The next try gets a new one.
            closed = ConnectionError("the session was closed")
            closed.__cause__ = error
            errors.append(closed)
            ready.set()
            return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)
            ready.set()
            return
        with lock:
            answers.append(answer)
            ready.set()
            unwanted = left_behind
        if unwanted:
            request.__exit__(None, None, None)

    threading.Thread(target=begin, name="gguf-widgets download", daemon=True).start()
    try:
        while not ready.wait(0.1):
            job.check()
    except BaseException:
        with lock:
            left_behind = True
            arrived = bool(answers)
        if arrived:
            request.__exit__(None, None, None)
        raise
    if errors:
        raise errors[0]
    try:
        yield answers[0]
    except BaseException as error:
        request.__exit__(type(error), error, error.__traceback__)
        raise
    else:
        request.__exit__(None, None, None)


@contextlib.contextmanager
def _stopped_with(job: Job, response: Any) -> Iterator[None]:
    """End a read that is under way as soon as the job is to stop.

    A read may take as long as `Patience.read_s` to give up by itself. Closing the connection for
    reading makes it return at once, in whichever thread it waits.
    """
    stream = response.extensions.get("network_stream")
    plug = stream.get_extra_info("socket") if stream is not None else None
    if not isinstance(plug, socket.socket):
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            try:
                stop = job.cancelled
            except Exception:  # noqa: BLE001 - raised again in the thread that reads, which asks too
                stop = True
            if stop:
                # Not the method of ssl.SSLSocket, which would forget its state under the reader.
                with contextlib.suppress(OSError):  # it has ended by itself
                    socket.socket.shutdown(plug, socket.SHUT_RDWR)
                return

    watcher = threading.Thread(target=watch, name="gguf-widgets download stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
