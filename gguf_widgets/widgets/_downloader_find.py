"""What a person looks for in `ModelDownloader`: a search, the repositories it found, an address.

Promises: each question runs in a thread of its own and a newer one ends it; what comes back is
taken in on the widget's own thread, and only if it is still wanted; nothing here is fetched but to
be looked at. Leaves to others: the questions (`core.download`), drawing (static/).
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.looking import Address, look_at
from gguf_widgets.core.download.names import HubName, UrlName, local_path, parse_name
from gguf_widgets.core.errors import DownloadError, GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.widgets._downloader_errors import error_view
from gguf_widgets.widgets._downloader_versions import versions_view
from gguf_widgets.widgets._downloader_words import Message, fit_view, found_facts
from gguf_widgets.widgets._words import as_known

__all__ = ["MOST_FOUND", "Finder"]

FIRST_FOUND: Final = 20
MOST_FOUND: Final = 100
# A person waits for the answer: sooner a sentence and a button than many silent tries.
_LOOKING: Final = Patience(connect_s=10.0, tries=3, longest_retry_after_s=5.0)
_LONGEST_WORDS: Final = 200
_MOST_OPENING: Final = 6


class Lookups:
    """Questions under way, each by a key; a second one of a key ends the first.

    Parameters
    ----------
    post : callable
        Has a function called on the widget's own thread.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._stops: dict[str, threading.Event] = {}

    def __len__(self) -> int:
        return len(self._stops)

    def start(
        self,
        key: str,
        ask: Callable[[threading.Event], Any],
        then: Callable[[Any], None],
    ) -> None:
        """Ask in the background; `then` gets the answer, or the error, unless it was ended."""
        self.end(key)
        stop = self._stops[key] = threading.Event()

        def run() -> None:
            try:
                answer = ask(stop)
            except Exception as error:  # noqa: BLE001 - it is shown where the answer would be
                answer = as_known(error)
            self._post(lambda: take(answer))

        def take(answer: Any) -> None:
            if self._stops.get(key) is stop:
                del self._stops[key]
                then(answer)

        threading.Thread(target=run, name=f"ModelDownloader {key[:40]}", daemon=True).start()

    def end(self, key: str) -> None:
        """End a question; its answer is not waited for."""
        stop = self._stops.pop(key, None)
        if stop is not None:
            stop.set()

    def end_all(self) -> None:
        """End all questions."""
        for key in list(self._stops):
            self.end(key)


@dataclasses.dataclass
class _Repo:
    """A repository in the list."""

    name: str
    facts: list[str]
    gated: bool = False
    revision: str | None = None
    wanted: HubName | None = None
    status: str = "closed"  # or "busy", "open", "failed"
    versions: Message | None = None
    error: Message | None = None

    def view(self) -> Message:
        owner, _, title = self.name.partition("/")
        return {
            "name": self.name,
            "title": title,
            "owner": owner,
            "facts": self.facts,
            "gated": self.gated,
            "status": self.status,
            "error": self.error,
            "versions": self.versions if self.status == "open" else None,
        }


class Finder:
    """What is looked for, and what was found; all of it is used on the widget's own thread.

    Parameters
    ----------
    post : callable
        Has a function called on that thread.
    tell : callable
        Called when there is something new to show.
    patience : Patience, optional
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        tell: Callable[[], None],
        patience: Patience | None = None,
    ) -> None:
        self._lookups = Lookups(post)
        self._tell = tell
        self._patience = patience or _LOOKING
        self._limit = FIRST_FOUND
        self._clear("")

    def _clear(self, text: str) -> None:
        self.text = text
        self.url = ""  # as it was given, secrets included: it stays in Python
        self._status = "none"
        self._kind = ""
        self._error: Message | None = None
        self._repos: dict[str, _Repo] = {}
        self._is_more = False
        self._address: Message | None = None

    def view(self) -> Message:
        """Return all of it for the page."""
        return {
            "text": self.text,
            "status": self._status,
            "kind": self._kind,
            "error": self._error,
            "repos": [repo.view() for repo in self._repos.values()],
            "more": self._is_more and self._limit < MOST_FOUND,
            "limit": self._limit if self._is_more else 0,
            "address": self._address,
        }

    def close(self) -> None:
        """End all questions."""
        self._lookups.end_all()

    # -- what the person does ---------------------------------------------------------------------

    def find(self, text: str, limit: int = FIRST_FOUND) -> None:
        """Look for what was typed: words, a name or an address."""
        from gguf_widgets.core import download

        self._lookups.end_all()
        self._limit = max(1, min(limit, MOST_FOUND))
        self._clear(text.strip())
        if not self.text:
            self._tell()
            return
        try:
            if download.is_download_name(self.text):
                self._find_name(parse_name(self.text))
            else:
                self._find_words()
        except InvalidValueError as error:
            self._status, self._error = "failed", error_view(error)
        self._tell()

    def more(self) -> None:
        """Search once more, for more repositories."""
        if self._kind != "words":
            return
        opened = {name: repo for name, repo in self._repos.items() if repo.status == "open"}
        self._limit = MOST_FOUND
        self._search(opened)
        self._tell()

    def stop(self) -> None:
        """End the search that is under way."""
        if self._status != "busy":
            return
        self._lookups.end("find")
        self._status = "done" if self._repos else "none"
        self._tell()

    def open(self, name: str) -> None:
        """Show what is in a repository of the list."""
        repo = self._repos.get(name)
        if repo is None or repo.status in ("busy", "open"):
            return
        if repo.versions is not None:
            repo.status = "open"
        elif len(self._lookups) >= _MOST_OPENING:
            repo.status = "failed"
            repo.error = error_view(
                DownloadError(
                    f"{_MOST_OPENING} repositories are being looked at already. Wait for one.",
                    problem="server_busy",
                )
            ) | {"title": "One moment"}
        else:
            repo.status, repo.error = "busy", None
            self._lookups.start(
                f"repo {name}", lambda stop: self._list(repo, stop), lambda a: self._opened(repo, a)
            )
        self._tell()

    def fold(self, name: str) -> None:
        """Fold a repository again; what is asked about it is ended."""
        repo = self._repos.get(name)
        if repo is None:
            return
        self._lookups.end(f"repo {name}")
        repo.status, repo.error = "closed", None
        self._tell()

    def arrived(self, name: str, path: Path) -> None:
        """Take note that a model is here now.

        Parameters
        ----------
        name : str
            What it was asked for by.
        path : Path
            Where it is.
        """
        for repo in self._repos.values():
            folder = models_dir().joinpath(*repo.name.split("/"))
            for version in (repo.versions or {}).get("models", ()):
                if version["name"] == name or local_path(folder, version["path"]) == path:
                    version["here"] = "here"
        if self._address is not None and self._address["name"] == name:
            self._address["here"] = True

    # -- in the background ------------------------------------------------------------------------

    def _find_words(self) -> None:
        if len(self.text) > _LONGEST_WORDS:
            raise InvalidValueError(
                f"That is {len(self.text):,} characters; a search takes {_LONGEST_WORDS} at most.",
                limit=_LONGEST_WORDS,
            )
        self._kind = "words"
        self._search({})

    def _search(self, opened: dict[str, _Repo]) -> None:
        from gguf_widgets.core import download

        words, limit = self.text, self._limit
        self._status = "busy"
        self._lookups.start(
            "find",
            lambda stop: download.search(words, limit=limit, cancel=stop, patience=self._patience),
            lambda answer: self._found(answer, opened),
        )

    def _found(self, answer: Any, opened: dict[str, _Repo]) -> None:
        if isinstance(answer, GgufWidgetsError):
            self._fail(answer)
            return
        self._status = "done"
        self._is_more = len(answer) >= self._limit
        self._repos = {
            one.name: opened.get(one.name) or _Repo(one.name, found_facts(one), one.gated)
            for one in answer
        }
        self._tell()

    def _find_name(self, parsed: HubName | UrlName) -> None:
        if isinstance(parsed, HubName):
            self._show_repo(parsed, None)
            return
        self._kind, self._status, self.url = "address", "busy", parsed.url
        self._lookups.start("find", lambda stop: self._look(parsed, stop), self._looked)

    def _show_repo(self, name: HubName, revision: str | None) -> None:
        self._kind, self._status = "repo", "done"
        wanted = name if name.quant or name.file else None
        self._repos = {name.repo: _Repo(name.repo, [], revision=revision, wanted=wanted)}
        self.open(name.repo)

    def _look(self, name: UrlName, stop: threading.Event) -> Any:
        from gguf_widgets.core.download.hub import hub_name

        meant = hub_name(name)
        return meant or look_at(name.url, cancel=stop, patience=self._patience)

    def _looked(self, answer: Any) -> None:
        if isinstance(answer, GgufWidgetsError):
            self._fail(answer)
        elif isinstance(answer, Address):
            self._status, self._address = "done", _address_view(answer)
        else:  # a page of the hub itself
            name, revision = answer
            self._show_repo(name, None if revision == "main" else revision)
        self._tell()

    def _fail(self, error: GgufWidgetsError) -> None:
        if self._repos:  # more of them were asked for
            self._status = "done"
        else:
            self._status = "failed"
        self._error = error_view(error, name=self.text)
        self._tell()

    def _list(self, repo: _Repo, stop: threading.Event) -> Message:
        from gguf_widgets.core import download

        notes: list[str] = []
        found = download.files(
            repo.name,
            revision=repo.revision,
            on_note=notes.append,
            cancel=stop,
            patience=self._patience,
        )
        return versions_view(found, repo.wanted, notes) | {"gated": found.gated}

    def _opened(self, repo: _Repo, answer: Any) -> None:
        if isinstance(answer, GgufWidgetsError):
            repo.status, repo.error = "failed", error_view(answer, name=f"hf:{repo.name}")
        else:
            repo.status, repo.versions = "open", answer
            repo.gated = answer["gated"]
            if not repo.facts and answer["license"]:
                repo.facts = [f"licence {answer['license']}"]
        self._tell()

    def revision_of(self, name: str) -> str | None:
        """Return the revision that a listed version was listed at, where it is not the usual."""
        for repo in self._repos.values():
            if name.startswith(f"hf:{repo.name}/"):
                return repo.revision
        return None


def _address_view(address: Address) -> Message:
    facts = [] if address.size_bytes is None else [format_bytes(address.size_bytes)]
    if address.size_bytes is None:
        facts.append("its server does not say how large it is")
    if address.num_files > 1:
        facts.append(f"{address.num_files} files that belong together")
    return {
        "name": address.name,
        "title": plain_text(PurePosixPath(address.file_name).name, 200),
        "host": plain_text(address.host, 100),
        "facts": facts,
        "fit": fit_view(address.fit),
        "here": address.here is not None,
        "single": address.num_files == 1,
    }
