"""The one page of the dashboard, as it goes over HTTP, and its line to the kernel.

Promises: a page that is reloaded or closed ends its kernel, also one that is left before it is
ready; a kernel that does not start ends in a sentence on the page, not in an endless wait; what a
kernel says reaches the page at once. Leaves to others: rendering the notebook (Voila), the page's
words and looks (``page/index.html.j2``).
"""

from __future__ import annotations

import contextlib
from typing import Any

from jupyter_core.utils import ensure_async
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, authenticated
from voila.handler import VoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from gguf_widgets.dashboard.kernels import started_kernels

__all__ = ["FAVICON", "FaviconHandler", "KernelSocketHandler", "PageHandler"]

# A speech bubble in the page's accent colour.
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#1976d2" '
    'd="M6 4h20a3 3 0 0 1 3 3v13a3 3 0 0 1-3 3H15l-7 6v-6H6a3 3 0 0 1-3-3V7a3 3 0 0 1 3-3z"/>'
    '<path stroke="#fff" stroke-width="2.5" stroke-linecap="round" d="M9 11h14M9 16h9"/></svg>'
)

# Voila writes this line into the page each time `http_keep_alive_timeout` passes without news.
_HEARTBEAT = "window.voila_heartbeat()"
_MAX_HEARTBEATS = 18  # 90 s with the 5 s that the application sets: more than a kernel's own limit


_WORDS = {
    404: "There is nothing at this address. The dashboard is at the one that was printed when it "
    "was started.",
    500: "The server met an error that it did not expect. The terminal in which it was started "
    "says more.",
}


class PageHandler(VoilaHandler):  # type: ignore[misc]  # Voila ships no types
    """Serves the notebook as a page, with a kernel of its own for each visit."""

    @authenticated
    async def get(self, path: str | None = None) -> None:
        """Send the page piece by piece while its notebook runs."""
        # Asking for the token sets the _xsrf cookie. Without it the page's own "shut down my
        # kernel" on reload is refused, and every reload leaves a kernel behind.
        _ = self.xsrf_token
        kernels: list[str] = []
        started_kernels.set(kernels)
        gone = False
        silent = 0
        pieces = self.get_generator(path=path)
        try:
            async for piece in pieces:
                silent = silent + 1 if _HEARTBEAT in piece else 0
                if silent > _MAX_HEARTBEATS:
                    self.log.error("The page's notebook did not get ready; giving up.")
                    await self._end(kernels)
                    piece = "<script>window.gw_did_not_start()</script>\n"  # noqa: PLW2901
                if not gone:
                    self.write(piece)
                    try:
                        await self.flush()
                    except StreamClosedError:
                        # The page was left. Ending the kernel under Voila's running executor would
                        # only log tracebacks, so the notebook runs to its end first.
                        gone = True
                if silent > _MAX_HEARTBEATS:
                    return
        except Exception:
            await self._end(kernels)
            raise
        if gone or self._connection_lost:
            await self._end(kernels)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say in words what went wrong; Voila's own page would fetch an icon font from a CDN."""
        if status_code == 403 and not self.check_host():
            words = (
                f"This page was asked for under the name “{self.request.host}”, which is not one "
                "of this machine's own. To serve it under other names, start it with a token: "
                "gguf-widgets dashboard --token"
            )
        else:
            words = _WORDS.get(status_code, _WORDS[500])
        template = self.settings["voila_jinja2_env"].get_template("gw_error.html.j2")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(template.render(status=status_code, words=words))

    _connection_lost = False

    def on_connection_close(self) -> None:
        """Note that the browser has gone before the page was complete."""
        self._connection_lost = True
        super().on_connection_close()

    async def _end(self, kernels: list[str]) -> None:
        for kernel_id in kernels:
            # 404: the page's own beacon was quicker.
            with contextlib.suppress(HTTPError, KeyError):
                await ensure_async(self.kernel_manager.shutdown_kernel(kernel_id))
        kernels.clear()


class KernelSocketHandler(VoilaKernelWebsocketHandler):  # type: ignore[misc]  # as above
    """The web socket between a page and its kernel."""

    async def open(self, kernel_id: str) -> None:
        """Connect, and send small messages without waiting for more to go with them.

        An answer is a few messages: that the kernel is busy, what it says, that it is idle. The
        system would keep the second back until the browser has confirmed the first, which browsers
        put off for 40 ms (Nagle's algorithm and delayed acknowledgements).
        """
        self.set_nodelay(True)
        await super().open(kernel_id)


class FaviconHandler(RequestHandler):
    """The icon, for browsers that ask for it by its old name (error pages, bookmarks)."""

    def get(self, *_: Any) -> None:
        """Send the SVG."""
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Cache-Control", "max-age=86400")
        self.finish(FAVICON)
