"""Where a worker listens, and who may talk to it.

Promises: a worker is reachable by this user alone. With Unix-domain sockets the folder (0700), the
socket (0600) and, on Linux, the peer's user id see to that; elsewhere it is a loopback port whose
clients must prove that they can read a secret file (0600). Leaves to others: what is said.

``GGUF_WIDGETS_TRANSPORT=tcp`` forces the loopback port.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import struct
import sys
from pathlib import Path

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import WorkerStartError

__all__ = [
    "Address",
    "connect",
    "listen",
    "peer_is_this_user",
    "private_folder",
    "read_secret",
    "remove_files",
]

_BACKLOG = 64


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker listens: the path of a socket, or a port on the loopback interface."""

    path: str | None = None
    port: int | None = None
    secret_path: str | None = None


def listen(name: str) -> tuple[socket.socket, Address]:
    """Open the listening socket of the worker called `name`.

    Returns
    -------
    tuple of socket and Address
        A Unix-domain socket where the system has them and the folder's file system allows one,
        else a loopback port.
    """
    folder = private_folder()
    if _wants_unix():
        path = folder / f"{name}.sock"
        try:
            return _listen_unix(path)
        except OSError as error:
            # Network and shared folders often refuse sockets; the port works everywhere.
            print(f"no socket at {path} ({error}); using a loopback port", file=sys.stderr)  # noqa: T201 - the worker's log
    return _listen_tcp(folder / f"{name}.secret")


def private_folder() -> Path:
    """Return the folder for sockets and entries, made if need be, for this user alone.

    Raises
    ------
    WorkerStartError
        If somebody else has made it: in a shared folder for temporary files that is possible.
    """
    folder = config.runtime_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        ours = stat.S_ISDIR(status.st_mode) and (os.name != "posix" or status.st_uid == os.getuid())
        if ours:
            config.ensure(folder, private=True)
    except OSError as error:
        raise WorkerStartError(f"The folder {folder} cannot be used: {error}.") from error
    if not ours:
        raise WorkerStartError(
            f"The folder {folder} is not a folder of yours, so no worker is started there. Remove "
            "it, or set GGUF_WIDGETS_HOME to a short path of your own.",
            path=os.fspath(folder),
        )
    return folder


def _listen_unix(path: Path) -> tuple[socket.socket, Address]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The folder keeps others out between bind and chmod.
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        path.unlink(missing_ok=True)
        raise
    return listener, Address(path=os.fspath(path))


def _listen_tcp(secret_path: Path) -> tuple[socket.socket, Address]:
    descriptor = os.open(secret_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    port = listener.getsockname()[1]
    return listener, Address(port=port, secret_path=os.fspath(secret_path))


def connect(address: Address, timeout_s: float) -> socket.socket:
    """Connect to a worker.

    Raises
    ------
    OSError
        If nobody listens there.
    """
    if address.path is not None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(f"this system has no Unix-domain sockets ({address.path})")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
        return connection
    connection = socket.create_connection(("127.0.0.1", address.port or 0), timeout=timeout_s)
    # Small messages must not wait for an answer to the one before.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_secret(address: Address) -> str:
    """Return the worker's secret, or "" for a Unix-domain socket.

    Raises
    ------
    OSError
        If the file is not there or belongs to someone else.
    """
    if address.secret_path is None:
        return ""
    return Path(address.secret_path).read_text(encoding="ascii")


def peer_is_this_user(connection: socket.socket) -> bool:
    """Return whether the other end of a Unix-domain socket is this user, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or connection.family != getattr(socket, "AF_UNIX", None):
        return True  # the folder's permissions, or the secret, are the check there
    credentials = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())


def remove_files(address: Address) -> None:
    """Remove the socket or the secret; files that are gone already are fine."""
    for name in (address.path, address.secret_path):
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()


def _wants_unix() -> bool:
    if config.transport_override() == "tcp":
        return False
    # asyncio has no Unix-domain servers on Windows.
    return hasattr(socket, "AF_UNIX") and sys.platform != "win32"
