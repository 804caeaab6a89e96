"""The one copy of plotly.js that all charts of a page share.

Promises: it comes from the installed `plotly` package, without a network and without importing that
package (which takes half a second); a page gets it in pieces that fit through any websocket, packed
to a third of its 4.8 MB, and only when it asks, which it does once, with its first chart. Leaves to
others: sharing it among a page's widgets, and drawing (static/_chart.js).
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError

__all__ = ["INSTALL_LINE", "plotly_piece"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[charts]"'
_PIECE_BYTES: Final = 1 << 20
_OLDEST: Final = 6  # of the package; before it, plotly.js was another one


def plotly_piece(content: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Answer a page that asks for the next piece of plotly.js.

    Parameters
    ----------
    content : dict
        With ``offset``: how many bytes the page has.

    Returns
    -------
    dict
        ``size``: how many bytes there are, packed with gzip; ``version`` of the package.
    list of bytes
        The piece.

    Raises
    ------
    MissingDependencyError
        plotly is not installed, or is too old.
    InvalidValueError
        There is no such piece.
    """
    packed, version = _library()
    offset = content.get("offset")
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < len(packed):
        raise InvalidValueError(
            f"plotly.js has bytes 0 to {len(packed) - 1:,} for a page, not {offset!r:.40}."
        )
    return {"size": len(packed), "version": version}, [packed[offset : offset + _PIECE_BYTES]]


@lru_cache(maxsize=1)
def _library() -> tuple[bytes, str]:
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise _missing("which is not installed")
    version = importlib.metadata.version("plotly")
    if int(version.split(".")[0]) < _OLDEST:
        raise _missing(f"of which version {version} is installed, and {_OLDEST} or later is needed")
    path = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    try:
        return gzip.compress(path.read_bytes(), 6), version
    except OSError as error:
        raise _missing(f"whose file {path.name} cannot be read ({error.strerror})") from error


def _missing(why: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"Charts need the package plotly, {why}. Install it: {INSTALL_LINE}. Then restart Python "
        "(in a notebook: its kernel).",
        install=INSTALL_LINE,
        package="plotly",
    )
