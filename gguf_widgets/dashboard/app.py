"""The dashboard's server: a small Voila application of our own.

Promises: it listens on this machine only unless told otherwise, and never beyond it without a
token; it prints the address in a line that starts with ``Open ``; the kernels it started are ended
with it, and those of pages that were left are ended before. Leaves to others: the page
(`handlers`, ``page/``), the kernels (`kernels`), the sockets (`address`), the command line
(`gguf_widgets.cli`).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, FunctionLoader
from jupyter_core.utils import run_sync
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from traitlets import Instance
from traitlets.config import Config

from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError, ServerStartError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.upload import UploadStore
from gguf_widgets.dashboard.address import (
    bind,
    is_any_address,
    is_this_machine,
    open_browser,
    say,
)
from gguf_widgets.dashboard.notebooks import notebook_path
from gguf_widgets.dashboard.quick_import import without_iri_grammar

with without_iri_grammar():
    import nbformat
    from jupyter_server.utils import url_path_join
    from voila.app import Voila
    from voila.tornado.handler import TornadoVoilaHandler
    from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

    from gguf_widgets.dashboard.handlers import (
        FAVICON,
        FaviconHandler,
        KernelSocketHandler,
        PageHandler,
    )
    from gguf_widgets.dashboard.kernels import DashboardKernelManager, ThisPythonOnly
    from gguf_widgets.dashboard.upload_handler import upload_handlers

__all__ = ["DashboardApp", "DashboardOptions", "serve"]

_LONGEST_SOCKET_PATH = 100  # macOS allows 103 bytes, Linux 107
_PAGE_TEMPLATES = Path(__file__).parent / "page"


@dataclass(frozen=True, kw_only=True)
class DashboardOptions:
    """How the dashboard is served.

    Parameters
    ----------
    ip : str, default "localhost"
        The address to listen on; "0.0.0.0" is every network this machine is in.
    port : int, default 8866
        The first port to try; when it is taken, the next free one is used. 0 takes any free one.
    token : str or None, default None
        What a visitor must bring. "" makes one. None means none on this machine's own address, and
        makes one on any other.
    open_browser : bool, default True
    theme : {"light", "dark"}, default "light"
    notebook : Path or None, default None
        Another notebook to serve instead of our own.
    browse : sequence of Path, default ()
        Folders in which a visitor may look for model files that are on this machine, and add them
        to the list. None given means: what ``GGUF_WIDGETS_BROWSE`` says on this machine's own
        address, and nothing on any other, for there visitors are other people.
    idle_timeout_s, idle_check_s : int, defaults 600 and 60
        A kernel whose page has gone is ended after this long without a sign of work, and how often
        that is looked at.
    verbose : bool, default False
        Log what the server does.

    Raises
    ------
    InvalidValueError
        A port that does not exist, a theme that is not known, or a folder that is not there.
    """

    ip: str = "localhost"
    port: int = 8866
    token: str | None = None
    open_browser: bool = True
    theme: str = "light"
    notebook: Path | None = None
    browse: Sequence[Path] = ()
    idle_timeout_s: int = 600
    idle_check_s: int = 60
    verbose: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidValueError(f"The port is {self.port}; it must be from 0 to 65535.")
        if self.theme not in ("light", "dark"):
            raise InvalidValueError(f'The theme is {self.theme!r}; it can be "light" or "dark".')
        for folder in self.browse:
            if not config.expanded(folder).is_dir() or os.pathsep in str(folder):
                raise InvalidValueError(
                    f"{plain_text(str(folder), 200)!r} cannot be looked through: it is not a folder"
                    f" that is there, or has {os.pathsep!r} in its name.",
                    name="browse",
                )

    def browse_setting(self) -> str | None:
        """Return what ``GGUF_WIDGETS_BROWSE`` has to be in the pages' kernels; None leaves it."""
        if self.browse:
            return os.pathsep.join(str(config.expanded(folder)) for folder in self.browse)
        return None if is_this_machine(self.ip) else "none"


class DashboardApp(Voila):  # type: ignore[misc]  # Voila ships no types
    """Voila, serving one notebook: ours, in this Python environment.

    Configuration files of other Voila pages are not read: they are about other pages, and one in
    the current folder could run any code.
    """

    name = "gguf-widgets-dashboard"
    options = Instance(DashboardOptions)

    def setup_template_dirs(self) -> None:
        """Put our page before Voila's own templates."""
        super().setup_template_dirs()
        self.template_paths: list[str] = [str(_PAGE_TEMPLATES), *self.template_paths]

    def init_settings(self) -> dict[str, Any]:
        """Return tornado's settings, with one guard more than Voila's."""
        settings: dict[str, Any] = super().init_settings()
        # Signed in memory (see `_config`): the person's own trust database is left alone.
        self.contents_manager.notary.sign(_read_notebook(self.notebook_path))
        # Without a token, a page of another site could reach us by pointing a name of its own at
        # 127.0.0.1; so only this machine's own names are let in then.
        settings["allow_remote_access"] = bool(self.token)
        # Jupyter's own login page tells of commands and passwords that are not ours.
        server_pages = settings["jinja2_env"]
        server_pages.loader = ChoiceLoader([FunctionLoader(_own_page), server_pages.loader])
        return settings

    def init_handlers(self) -> list[Any]:
        """Return Voila's handlers with our own in the place of some, and ours before."""
        own = {TornadoVoilaHandler: PageHandler, VoilaKernelWebsocketHandler: KernelSocketHandler}
        favicon = (url_path_join(self.server_url, "/favicon.ico"), FaviconHandler)
        return [*upload_handlers(self.server_url, UploadStore()), favicon] + [
            (rule[0], own.get(rule[1], rule[1]), *rule[2:]) for rule in super().init_handlers()
        ]

    def listen(self) -> None:
        """Bind, say where, and run until the process is told to end."""
        sockets = bind(self.ip, self.port)
        self.port: int = sockets[0].getsockname()[1]
        HTTPServer(self.app).add_sockets(sockets)
        self.ioloop = IOLoop.current()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle_signal_stop)
        # A token of the person's own is theirs to keep out of terminals and logs.
        shown = None if self.options.token else self.token
        say(f"Open {self._address(self._own_host, token=shown)}")
        if is_any_address(self.ip):
            say(f"From another machine: {self._address(socket.gethostname(), token=shown)}")
        say("Press Ctrl+C here to end it.")
        if self.open_browser:
            address = self._address(self._own_host, token=self.token)
            open_browser(address, is_secret=bool(self.token))
        try:
            self.ioloop.start()
        finally:
            # A second Ctrl+C ends the program at once; the kernels notice that and leave as well.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.stop()

    def stop(self) -> None:
        """End every kernel."""
        say("Ending.")
        run_sync(self.kernel_manager.shutdown_all)(now=False)
        super().stop()

    @property
    def _own_host(self) -> str:
        return "localhost" if is_any_address(self.ip) else self.ip

    def _address(self, host: str, *, token: str | None) -> str:
        shown = f"[{host}]" if ":" in host else host
        query = f"?token={quote(token)}" if token else ""
        return f"http://{shown}:{self.port}{self.base_url}{query}"


def serve(options: DashboardOptions) -> int:
    """Serve the dashboard until Ctrl+C or SIGTERM; return the exit status.

    Raises
    ------
    ServerStartError
        The address or the port cannot be used, or the notebook is not there.
    """
    notebook = (options.notebook or notebook_path("dashboard.ipynb")).absolute()
    if not notebook.is_file():
        raise ServerStartError(f"There is no notebook at {notebook}.", path=str(notebook))
    token = options.token or (
        None if options.token is None and is_this_machine(options.ip) else secrets.token_urlsafe(24)
    )
    browse = options.browse_setting()
    if browse is not None:
        os.environ[config.BROWSE] = browse  # this process's own; its kernels inherit it
    app = DashboardApp(
        options=options,
        config=_config(options),
        config_file_paths=[],
        ip=options.ip,
        port=options.port,
        token=token,
        open_browser=options.open_browser,
        notebook_path=str(notebook),
        log_level=logging.INFO if options.verbose else logging.WARNING,
    )
    # jupyter-server counts this limit in milliseconds and tornado in seconds; both live with it.
    logging.getLogger("tornado.general").addFilter(
        lambda record: "websocket_ping_timeout" not in record.getMessage()
    )
    # tornado's listener and the kernels need a loop in this thread.
    asyncio.set_event_loop(asyncio.new_event_loop())
    app.initialize([])
    app.start()
    return 0


def _own_page(name: str) -> str | None:
    """Return our page for one that Jupyter asks for by name, if we have one."""
    path = _PAGE_TEMPLATES / f"{name}.j2"
    return path.read_text("utf-8") if path.is_file() else None


def _read_notebook(path: str) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it has no types


def _config(options: DashboardOptions) -> Config:
    icon = FAVICON
    favicon = "data:image/svg+xml;base64," + base64.b64encode(icon.encode()).decode()
    return Config(
        VoilaConfiguration={
            "template": "lab",
            "allow_template_override": "NO",
            "theme": options.theme,
            "show_tracebacks": True,
            "http_keep_alive_timeout": 5,
            "file_allowlist": [],
            "kernel_spec_manager_class": ThisPythonOnly,
            "multi_kernel_manager_class": DashboardKernelManager,
            "resources": {"gw_favicon": favicon, "gw_icon": icon},
        },
        DashboardKernelManager={
            "cull_idle_timeout": options.idle_timeout_s,
            "cull_interval": options.idle_check_s,
        },
        # Starting an empty kernel in the place of one that crashed would help nobody: the page's
        # widgets lived in the old one. The page is told that it is dead, and says so.
        KernelRestarter={"restart_limit": 0, "time_to_dead": 1.0},
        KernelManager={"transport": _transport()},
        # The login page would otherwise let a visitor write a password into Jupyter's own files.
        PasswordIdentityProvider={"allow_password_change": False},
        NotebookNotary={"db_file": ":memory:", "secret": secrets.token_bytes(64)},
    )


def _transport() -> str:
    """Talk with kernels through files in a private folder where their names are not too long.

    Unlike TCP ports, other users of the machine cannot reach them.
    """
    longest = len(tempfile.gettempdir()) + len("/voila_xxxxxxxx/kernel--ipc-5") + 36
    return "ipc" if os.name == "posix" and longest <= _LONGEST_SOCKET_PATH else "tcp"
