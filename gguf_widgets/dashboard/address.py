"""Where the dashboard's server listens, in words and in sockets, and opening a browser there.

Promises: a taken port is said and the next free one used; an address that cannot be used ends in
one sentence. Leaves to others: what is served (`app`).
"""

from __future__ import annotations

import atexit
import errno
import ipaddress
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from tornado.netutil import bind_sockets

from gguf_widgets.core.errors import ServerStartError

__all__ = ["bind", "is_any_address", "is_this_machine", "open_browser", "say"]

_NUM_PORTS_TRIED = 50


def bind(ip: str, first_port: int) -> list[socket.socket]:
    """Listen on the first free port from `first_port` on, 0 for any; IPv4 and IPv6 alike.

    Raises
    ------
    ServerStartError
        There is no such address here, no right to use it, or no free port.
    """
    for port in _ports(first_port):
        try:
            sockets = bind_sockets(port, "" if is_any_address(ip) else ip)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ServerStartError(_why_not(ip, port, error), port=port) from error
        if port != first_port:
            say(f"Port {first_port} is taken; using {port} instead.")
        return sockets
    last = min(first_port + _NUM_PORTS_TRIED - 1, 65535)
    raise ServerStartError(
        f"The ports from {first_port} to {last} are all taken. Choose another with --port, or "
        "--port 0 for any free one.",
        port=first_port,
    )


def _ports(first: int) -> Iterator[int]:
    return iter([0] if first == 0 else range(first, min(first + _NUM_PORTS_TRIED, 65536)))


def is_any_address(ip: str) -> bool:
    """Return whether this stands for every network the machine is in."""
    return ip in ("", "*", "0.0.0.0", "::")  # noqa: S104  # compared, not bound


def is_this_machine(ip: str) -> bool:
    """Return whether only programs on this machine can reach this address."""
    if ip == "localhost":
        return True
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def _why_not(ip: str, port: int, error: OSError) -> str:
    if error.errno in (errno.EACCES, getattr(errno, "WSAEACCES", errno.EACCES)):
        return f"You may not use port {port}. The ports from 1024 up need no special right."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"This machine has no address {ip!r}. Leave --ip out to serve this machine only, or "
            "use 0.0.0.0 for all of its networks."
        )
    return f"The address {ip}, port {port}, cannot be used: {error.strerror or error}."


def open_browser(url: str, *, is_secret: bool) -> None:
    """Open the page, in a thread because some browsers keep the caller until they are closed."""
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not graphical:
        say("There is no graphical browser here: open the address above in one that reaches it.")
        return
    if is_secret:
        # Other users of this machine can read a program's arguments, but not a private file.
        descriptor, name = tempfile.mkstemp(prefix="gguf-widgets-", suffix=".html")
        os.close(descriptor)
        page = Path(name)
        page.write_text(f'<meta http-equiv="refresh" content="0;url={url}">', "utf-8")
        atexit.register(page.unlink, missing_ok=True)
        url = page.as_uri()

    def target() -> None:
        if not webbrowser.open(url, new=2):
            say("No browser opened: open the address above yourself.")

    threading.Thread(target=target, name="open-browser", daemon=True).start()


def say(line: str) -> None:
    """Print a line that a person, or a program that started us, is waiting for."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
