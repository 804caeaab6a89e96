"""The part of the uploader for files that are on this machine already: looked for, and added.

Promises: `post` returns at once; the looking is done in threads of its own, with an end, so that a
slow disk holds no upload up; each message is answered, with what was asked for or with a
sentence; whatever the page sends is checked again here, also that looking is allowed at all. Leaves
to others: what is allowed and what is there (`core.library.browse`), drawing
(static/_browse_panel.js).

The page's messages, each with a ``mid``; the answers, whose kind is ``answer``, carry it:

==================  ================================  ==============================================
kind                with                              the answer
==================  ================================  ==============================================
``browse-open``     nothing                           ``roots`` and the first ``listing``
``browse-list``     ``path``, ``match``, ``hidden``   ``listing``
``browse-go``       ``text``, as it was pasted        ``listing`` or ``candidate``
``browse-look``     ``path``                          ``candidate``
``browse-fit``      ``path``                          ``fit``
``browse-use``      ``path`` of a file                ``said``; it is in the list of models now
``browse-add``      ``path`` of a folder              ``said``; it is looked through from now on
``browse-remove``   ``path``, ``what``                ``said``; it is off the list
==================  ================================  ==============================================
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.format import format_bytes, format_count, plain_text
from gguf_widgets.core.library import browse, folders
from gguf_widgets.core.library.judge import Machine
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._picker_rows import CAPABILITIES, fit_view
from gguf_widgets.widgets._words import as_known, error_view

__all__ = ["BrowseDesk", "added_views"]

Message = dict[str, Any]

# For so long what is in the list of models is not looked for again, while a person walks about.
_KNOWN_S: Final = 5.0
_MAX_TEXT: Final = 5000
_MAX_WAITING: Final = 50
_REFRESH: Final = "refresh added"


class BrowseDesk:
    """Looks for files for one widget's pages.

    Parameters
    ----------
    name : str
        The thread's name.
    send : callable
        Takes a message for the pages.
    chosen : callable
        Told of a file that was chosen.
    changed : callable
        Called when `added` has changed.

    Attributes
    ----------
    added : list of dict
        What was added, as it was when it was looked at last; see `added_views`.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Message], object],
        chosen: Callable[[Path], object],
        changed: Callable[[], object],
    ) -> None:
        self._send = send
        self._chosen = chosen
        self._changed = changed
        self._known: tuple[float, set[browse.Identity]] = (float("-inf"), set())
        self.added: list[Message] = []
        self._room = threading.Semaphore(_MAX_WAITING)
        self._actor = Actor(name, self._work)
        # Asking for the graphics cards may take seconds: the folders do not wait for that.
        self._fits = Actor(f"{name}-fit", self._work)

    def post(self, content: Message) -> None:
        """Take a message of a page; returns at once."""
        if not self._room.acquire(blocking=False):
            error = InvalidValueError(
                "The page asks for more than can be looked up. Wait a moment, then try again.",
                problem="busy",
                limit=_MAX_WAITING,
            )
            self._send({"kind": "answer", "mid": content.get("mid"), "error": to_wire(error)})
            return
        (self._fits if content.get("kind") == "browse-fit" else self._actor).post(content)

    def refresh(self) -> None:
        """Look again at what was added, which another page or program may have changed."""
        if self._room.acquire(blocking=False):
            self._actor.post({"kind": _REFRESH})

    def close(self) -> None:
        """End the threads."""
        self._actor.close()
        self._fits.close()

    def _work(self, content: Message) -> None:
        self._room.release()
        if content.get("kind") == _REFRESH:
            self._look_at_added()
            return
        action = self._ACTIONS.get(str(content.get("kind")))
        if action is None:
            return
        mid = content.get("mid")
        try:
            answer = action(self, content)
        except GgufWidgetsError as error:
            self._send({"kind": "answer", "mid": mid, "error": _wire(error)})
        except Exception as error:
            self._send({"kind": "answer", "mid": mid, "error": _wire(as_known(error))})
            raise  # so that it is logged as well
        else:
            self._send({"kind": "answer", "mid": mid, **answer})

    # --- what a page asks for -------------------------------------------------------------------

    def _open(self, _content: Message) -> Message:
        roots = browse.allowed_roots()
        views = [
            {"title": root.title, "path": os.fspath(root.path)}
            for root in roots
            if _is_text(root.path)
        ]
        answer: Message = {"roots": views, "listing": None, "problem": ""}
        try:
            answer["listing"] = self._listing(views[0]["path"] if views else "")
        except GgufWidgetsError as error:  # the others may be there
            answer["problem"] = error.message
        return answer

    def _list(self, content: Message) -> Message:
        hidden = content.get("hidden") is True
        match = _text(content, "match", empty=True)
        return {"listing": self._listing(_text(content, "path"), match=match, hidden=hidden)}

    def _go(self, content: Message) -> Message:
        path = browse.place_of(_text(content, "text", empty=True))
        if browse.is_inside(path) and path.is_dir():
            return {"listing": self._listing(path)}
        return {"candidate": self._candidate(path)}

    def _look(self, content: Message) -> Message:
        return {"candidate": self._candidate(_text(content, "path"))}

    def _fit(self, content: Message) -> Message:
        found = browse.look_at(_text(content, "path"), known=set())
        if found.facts.info is None:
            return {"fit": None}
        return {"fit": fit_view(Machine().fit(found.path))}

    def _use(self, content: Message) -> Message:
        found = browse.look_at(_text(content, "path"), known=self._listed())
        if found.is_listed:
            path, said = found.path, "It was in the list of models already."
        else:
            path, said = browse.add_file(found.path), "It is in the list of models now."
        self._forget()
        self._chosen(path)
        return {"said": f"“{plain_text(path.name, 100)}”: {said} Nothing was copied."}

    def _add(self, content: Message) -> Message:
        path = browse.add_folder(_text(content, "path"))
        self._forget()
        return {
            "said": f"“{plain_text(path.name or str(path), 100)}” and the folders in it are looked"
            " through from now on. Nothing was copied."
        }

    def _remove(self, content: Message) -> Message:
        path, what = _text(content, "path"), content.get("what")
        # Only what this page is shown.
        if not any(one["path"] == path and one["what"] == what for one in added_views()):
            raise InvalidValueError(
                f'"{plain_text(path, 200)}" is not on the list of what was added any more.',
                problem="unknown",
            )
        if what == "folder":
            folders.remove_folder(path)
        else:
            folders.remove_file(path)
        self._forget()
        name = plain_text(Path(path).name or path, 100)
        return {"said": f"“{name}” is off the list. Nothing was deleted; it is where it was."}

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message], Message]]] = {
        "browse-open": _open,
        "browse-list": _list,
        "browse-go": _go,
        "browse-look": _look,
        "browse-fit": _fit,
        "browse-use": _use,
        "browse-add": _add,
        "browse-remove": _remove,
    }

    # --- inside ---------------------------------------------------------------------------------

    def _listed(self) -> set[browse.Identity]:
        at, known = self._known
        if time.monotonic() - at > _KNOWN_S:
            known = browse.listed()
            self._known = (time.monotonic(), known)
        return known

    def _forget(self) -> None:
        self._known = (float("-inf"), set())
        self._look_at_added()

    def _look_at_added(self) -> None:
        added = added_views()
        if added != self.added:
            self.added = added
            self._changed()

    def _listing(self, path: str | Path, *, match: str = "", hidden: bool = False) -> Message:
        found = browse.listing(path, match=match, hidden=hidden, known=self._listed())
        view: Message = msgspec.to_builtins(found)
        return view

    def _candidate(self, path: str | Path) -> Message:
        return _candidate_view(browse.look_at(path, known=self._listed()))


def added_views() -> list[Message]:
    """Return what was added, as far as a page may see it: plain data, files first.

    Where folders were named in which a page may look, it sees only what is in those.
    """
    if not browse.is_allowed():
        return []
    is_limited = config.browse_dirs() is not None
    added = [("file", path) for path in folders.files()]
    added += [("folder", path) for path in folders.folders()]
    return [
        {
            "what": what,
            "path": os.fspath(path),
            "name": plain_text(path.name or str(path), 200),
            "where": plain_text(str(path.parent), 400),
            "isThere": os.path.exists(path),  # noqa: PTH110 - never raises, whatever the name
        }
        for what, path in added
        if _is_text(path) and (not is_limited or browse.is_inside(path))
    ]


def _candidate_view(found: browse.Candidate) -> Message:
    """Return what a file is, or why it is no use."""
    facts = found.facts
    error = facts.error()
    lines = []
    if facts.info is not None:
        info = facts.info
        can = [label for key, label in CAPABILITIES if key in facts.capabilities]
        files = f" in {info.num_files} files" if info.num_files > 1 else ""
        lines = [
            f"{format_count(info.num_parameters)} parameters · {info.quantization}",
            f"{format_bytes(info.size_bytes)}{files} · {info.n_ctx_train:,} tokens of context",
            *([" · ".join(can)] if can else []),
        ]
    title = (facts.info.name if facts.info is not None else None) or found.path.name
    return {
        "path": os.fspath(found.path),
        "name": plain_text(found.path.name, 255),
        "title": plain_text(title, 120),
        "where": plain_text(str(found.path.parent), 400),
        "lines": lines,
        "isListed": found.is_listed,
        "error": None if error is None else error_view(error)["text"],
    }


def _wire(error: GgufWidgetsError) -> Message:
    return dict(to_wire(error))


def _text(content: Message, key: str, *, empty: bool = False) -> str:
    """Return a text that the page sent.

    Raises
    ------
    InvalidValueError
        It is none.
    """
    value = content.get(key, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not (value or empty):
        raise InvalidValueError(
            f"The page sent something that is not understood here ({key}). Reload the page.",
            problem="request",
        )
    return value


def _is_text(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
