"""Memory that loaded models and loads under way will still take, so that it is promised once.

Promises: of two programs that judge at the same instant the second sees what the first was given; a
claim ends with its process, however that ends; what a process has taken already is not counted
twice. Leaves to others: the figures (`fit_estimate`), when to ask (`load_judge`).

Why it is needed: the system counts as free what a model will only take while it loads; and also
the mapped weights of a model that is loaded, because they are pages of a file. So each worker has a
claim, a small file with what it was judged to need. What it has not taken yet, of memory that
belongs to no file, is not free for others.

A claim is made by whoever starts a worker, who holds it for the time that takes; then the worker
adopts it, and its process's command line, which names the claim, shows that it is alive.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import filelock
import msgspec
import psutil

from gguf_widgets.core import config
from gguf_widgets.core.errors import WorkerStartError

__all__ = ["Claim", "Claims", "adopt", "claims_dir", "drop", "drop_own", "judging", "settle"]

_log = logging.getLogger(__name__)

# Judging takes milliseconds, asking a graphics driver seconds.
_LOCK_TIMEOUT_S: Final = 60.0
# From being judged until a worker runs; after it, whoever made the claim has given up.
_START_S: Final = 120.0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker was judged to need.

    Parameters
    ----------
    name : str
    host : str
        The data folder may be shared by several machines.
    pid : int
        Of the worker, or as long as `adopted` is False of the program that starts it.
    made_at : float
        Seconds since 1970.
    file : str
        Which model file it is: two workers with the same one share its pages.
    mapped_bytes : int
        The part of `main_bytes` that is pages of the file.
    main_bytes : int
    gpu_bytes : dict of str to int
    locked : bool
        The pages of the file are locked in memory, so the system counts them as taken.
    adopted, loaded : bool
    """

    name: str
    host: str
    pid: int
    made_at: float
    file: str
    mapped_bytes: int
    main_bytes: int
    gpu_bytes: dict[str, int] = {}
    locked: bool = False
    adopted: bool = False
    loaded: bool = False


class Claims:
    """What others have been promised, as of now; see `judging`."""

    def __init__(self, claims: list[Claim]) -> None:
        self._claims = claims

    def main_bytes(self, file: str = "") -> int:
        """Return what is not free of main memory though it seems so.

        Parameters
        ----------
        file : str
            The file that is to be loaded: its pages are needed once, whoever has them.
        """
        total, seen = 0, {file}
        for claim in self._claims:
            shared = claim.mapped_bytes if claim.file in seen else 0
            seen.add(claim.file)
            total += max(0, claim.main_bytes - shared - _taken_bytes(claim))
        return total

    def gpu_bytes(self, name: str) -> int:
        """Return what is promised of a card's free memory: to loads under way."""
        return sum(claim.gpu_bytes.get(name, 0) for claim in self._claims if not claim.loaded)

    def reserve(
        self,
        *,
        file: str,
        mapped_bytes: int,
        main_bytes: int,
        gpu_bytes: Mapping[str, int],
        locked: bool,
    ) -> str:
        """Make a claim for a worker that is about to be started; return its name."""
        claim = Claim(
            name=f"claim-{secrets.token_hex(6)}",
            host=platform.node(),
            pid=os.getpid(),
            made_at=time.time(),
            file=file,
            mapped_bytes=min(mapped_bytes, main_bytes),
            main_bytes=main_bytes,
            gpu_bytes=dict(gpu_bytes),
            locked=locked,
        )
        try:
            _write(claim)
        except OSError as error:
            raise _not_written(error) from error
        self._claims.append(claim)
        return claim.name


def claims_dir() -> Path:
    """Return the folder of the claims."""
    return config.data_dir() / "memory" / "claims"


@contextlib.contextmanager
def judging() -> Iterator[Claims]:
    """Hold the machine-wide lock on judging, and give what others have been promised.

    Raises
    ------
    WorkerStartError
        If somebody else has held it for too long, or the folder cannot be written.
    """
    try:
        folder = config.ensure(claims_dir(), private=True)
        lock = filelock.FileLock(
            folder.parent / "claims.lock", timeout=_LOCK_TIMEOUT_S, mode=0o600, thread_local=False
        )
        lock.acquire(poll_interval=0.01)
    except filelock.Timeout as error:
        raise WorkerStartError(
            "Another program has been looking for memory for more than "
            f"{_LOCK_TIMEOUT_S:.0f} seconds. Try again; if that does not help, restart it."
        ) from error
    except OSError as error:
        raise _not_written(error) from error
    try:
        yield Claims(_living())
    finally:
        lock.release()


def adopt(name: str) -> None:
    """Make a claim this process's own, for as long as it lives; an unknown name is ignored."""
    claim = _read(name)
    if claim is not None:
        _rewrite(msgspec.structs.replace(claim, pid=os.getpid(), adopted=True))


def settle(name: str) -> None:
    """Note that everything has been allocated."""
    claim = _read(name)
    if claim is not None:
        _rewrite(msgspec.structs.replace(claim, loaded=True))


def drop(name: str) -> None:
    """Give a claim up; one that is gone already is fine."""
    if name:
        _path(name).unlink(missing_ok=True)


def drop_own(name: str) -> None:
    """Give a claim up unless a worker has adopted it."""
    claim = _read(name)
    if claim is not None and not claim.adopted:
        drop(name)


def _living() -> list[Claim]:
    """Return the claims of living processes of this machine, oldest first; remove dead ones."""
    found = []
    for path in sorted(claims_dir().glob("claim-*.json")):
        claim = _read(path.stem)
        if claim is not None and claim.host != platform.node():
            continue
        if claim is not None and _is_alive(claim):
            found.append(claim)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda claim: claim.made_at)


def _is_alive(claim: Claim) -> bool:
    try:
        process = psutil.Process(claim.pid)
        if not claim.adopted:
            # A clock that was set may make it older than it is; then it ends early, no more.
            return abs(time.time() - claim.made_at) < _START_S and process.is_running()
        return any(claim.name in argument for argument in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _taken_bytes(claim: Claim) -> int:
    """Return what a worker has taken that the system no longer counts as free."""
    if not claim.adopted:
        return 0
    try:
        memory = psutil.Process(claim.pid).memory_info()
    except psutil.Error:
        return 0
    # Only Linux tells which pages belong to files, and counts those as free.
    return memory.rss if claim.locked else max(0, memory.rss - getattr(memory, "shared", 0))


def _path(name: str) -> Path:
    return claims_dir() / f"{name}.json"


def _read(name: str) -> Claim | None:
    if not name:
        return None
    try:
        return msgspec.json.decode(_path(name).read_bytes(), type=Claim)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # gone, or of a version with other fields


def _rewrite(claim: Claim) -> None:
    try:
        _write(claim)
    except OSError as error:  # the model works without; another one may be promised too much
        _log.warning("the claim on memory could not be written: %s", error)


def _not_written(error: OSError) -> WorkerStartError:
    return WorkerStartError(
        f"Nothing can be written to {claims_dir()}, where programs see what memory is promised: "
        f"{error.strerror or error}. Make room on the disk, or give yourself the right to write."
    )


def _write(claim: Claim) -> None:
    folder = config.ensure(claims_dir(), private=True)
    temporary = folder / f"{claim.name}.{os.getpid()}.new"
    temporary.write_bytes(msgspec.json.encode(claim))
    temporary.replace(_path(claim.name))
