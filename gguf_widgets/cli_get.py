"""The command ``get``: a model from the hub or from the web, searching for one, and a list of them.

Promises: standard output has the result alone (the path of the model, a table, or JSON), so that a
program can read it; how far it is goes to standard error, as one line that changes on a terminal
and as a line now and then elsewhere; Ctrl+C keeps what arrived and says how to go on. Nothing is
imported before the command runs. Leaves to others: the work (`core.download`), errors (`cli`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TextIO

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text

if TYPE_CHECKING:
    from gguf_widgets.core.download import Progress
    from gguf_widgets.core.download.from_hub import Fetched
    from gguf_widgets.core.download.hub import FoundList, Repo

__all__ = ["add_commands"]

_INTERRUPTED = 130  # the shell's own number for "ended by Ctrl+C"
_LINE_EVERY_S = 10.0

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the command to the program's own.

    Parameters
    ----------
    add : callable
        Takes a name, a function of the arguments that returns the exit status, and a summary;
        returns the command's parser.
    """
    command = add("get", _get, "Get a model from the model hub, or from an address on the web.")
    command.add_argument(
        "name",
        nargs="?",
        help="hf:owner/repo, hf:owner/repo:Q4_K_M, hf:owner/repo/file.gguf or an https address",
    )
    command.add_argument(
        "--quant", metavar="Q", help="the version, such as Q4_K_M (as after the colon)"
    )
    command.add_argument(
        "--list", action="store_true", help="only list what the repository has, and what fits here"
    )
    command.add_argument(
        "--search", metavar="WORDS", help="only list repositories with these words in their name"
    )
    command.add_argument(
        "--limit", type=int, default=20, metavar="N", help="with --search: how many (20)"
    )
    command.add_argument("--to", metavar="FOLDER", help="instead of the models folder")
    command.add_argument("--revision", metavar="REV", help="a branch, a tag or a commit")
    command.add_argument("--sha256", metavar="HEX", help="what the file must come to")
    command.add_argument(
        "--newer", action="store_true", help="replace what is here, if there is another version"
    )
    command.add_argument(
        "--unfinished", action="store_true", help="only list what was begun and not finished"
    )
    command.add_argument(
        "--discard", action="store_true", help="remove what has arrived of NAME, if unfinished"
    )
    command.add_argument("--json", action="store_true", help="for programs")


def _get(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core import download

    if arguments.search is not None:
        if arguments.name is not None or arguments.list:
            raise InvalidValueError("With --search no model is named: choose one of what it lists.")
        found = download.search(arguments.search, limit=arguments.limit)
        return _put(_search_json(found) if arguments.json else repr(found))
    if arguments.unfinished or arguments.discard:
        return _leftovers(arguments)
    name = _full_name(arguments.name, arguments.quant)
    if arguments.list:
        parsed = download.parse_name(name)
        if not isinstance(parsed, download.HubName):
            raise InvalidValueError("Only a repository can be listed: hf:owner/repo.")
        repo = download.files(parsed.repo, revision=arguments.revision, on_note=_note)
        return _put(_list_json(repo) if arguments.json else repr(repo))
    with _Line(sys.stderr) as line:
        try:
            fetched = download.download(
                name,
                to=arguments.to,
                revision=arguments.revision,
                sha256=arguments.sha256,
                newer="get" if arguments.newer else "tell",
                on_progress=line,
                on_note=line.note,
            )
        except KeyboardInterrupt:
            line.note(
                f"Stopped. {format_bytes(line.received_bytes)} of it are here and are kept; to go "
                f"on from there: {_again(sys.argv[1:])}"
            )
            return _INTERRUPTED
    _say(_summary(fetched))
    return _put(_fetched_json(fetched) if arguments.json else str(fetched.path))


def _leftovers(arguments: argparse.Namespace) -> int:
    """List what is unfinished, or remove it."""
    from gguf_widgets.core import download

    if arguments.discard:
        if arguments.name is None:
            raise InvalidValueError("Say what to remove: a name as --unfinished lists it.")
        found = download.discard(arguments.name)
        what = "removed"
    else:
        found, what = download.unfinished(), "unfinished"
    if arguments.json:
        rows = [
            {
                "name": one.name,
                "path": str(one.path),
                "received_bytes": one.received_bytes,
                "total_bytes": one.total_bytes,
            }
            for one in found
        ]
        return _put(json.dumps(rows, indent=2))
    if not found:
        return _put("Nothing is unfinished.")
    total = format_bytes(sum(one.received_bytes for one in found))
    return _put("\n".join([*map(str, found), f"{total} {what}"]))


def _full_name(name: str | None, quant: str | None) -> str:
    """Return the name with the quantisation in it; "hf:" need not be written here.

    Raises
    ------
    InvalidValueError
    """
    from gguf_widgets.core import download

    if name is None:
        raise InvalidValueError(
            "Say which model: gguf-widgets get hf:owner/repo, or look for one: gguf-widgets get "
            "--search WORDS"
        )
    full = name if download.is_download_name(name) else f"hf:{name}"
    parsed = download.parse_name(full)
    if quant is None:
        return full
    if not isinstance(parsed, download.HubName) or parsed.quant or parsed.file:
        raise InvalidValueError(
            f'--quant goes with a repository alone (hf:owner/repo), not with "'
            f'{plain_text(str(parsed), 120)}".'
        )
    return f"hf:{parsed.repo}:{quant}"


def _summary(fetched: Fetched) -> str:
    size = format_bytes(sum(file.stat().st_size for file in fetched.files))
    how = {
        "fetched": "is here now",
        "here": "was here already",
        "cache": "is in the cache of other programs",
    }[fetched.origin]
    text = f"{plain_text(fetched.path.name, 100)} {how}: {size}"
    if fetched.license:
        text += f", licence {fetched.license}"
    if fetched.sha256:
        text += f"\nSHA-256 {fetched.sha256}"
    return text


def _fetched_json(fetched: Fetched) -> str:
    return json.dumps(
        {
            "name": fetched.name,
            "path": str(fetched.path),
            "files": [str(path) for path in fetched.files],
            "companion": str(fetched.companion) if fetched.companion else None,
            "origin": fetched.origin,
            "received_bytes": fetched.received_bytes,
            "sha256": fetched.sha256 or None,
            "revision": fetched.revision or None,
            "license": fetched.license or None,
            "notes": list(fetched.notes),
        },
        indent=2,
    )


def _search_json(found: FoundList) -> str:
    rows = [
        {
            "name": f"hf:{one.name}",
            "downloads": one.downloads,
            "likes": one.likes,
            "license": one.license or None,
            "gated": one.gated,
        }
        for one in found
    ]
    return json.dumps(rows, indent=2)


def _list_json(repo: Repo) -> str:
    models: list[dict[str, Any]] = [
        {
            "name": f"hf:{repo.name}/{model.path}",
            "quantization": model.quantization or None,
            "size_bytes": model.size_bytes,
            "total_bytes": model.total_bytes,
            "files": [file.path for file in model.files],
            "companion": model.companion.path if model.companion else None,
            "complete": model.complete,
            "fit": None
            if model.fit is None
            else {
                "verdict": model.fit.verdict,
                "needed_bytes": model.fit.needed_bytes,
                "free_bytes": model.fit.free_bytes,
                "sentence": model.fit.sentence,
                "judged_by": model.fit.judged_by,
            },
        }
        for model in repo.models
    ]
    about = {
        "name": f"hf:{repo.name}",
        "revision": repo.revision,
        "license": repo.license or None,
        "gated": repo.gated,
        "models": models,
    }
    return json.dumps(about, indent=2)


def _again(arguments: list[str]) -> str:
    return shlex.join(["gguf-widgets", *arguments])


def _put(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _note(sentence: str) -> None:
    _say(plain_text(sentence, 2000))


class _Line:
    """How far a download is: one line that changes, or a line now and then.

    Parameters
    ----------
    stream : TextIO
    """

    def __init__(self, stream: TextIO) -> None:
        self.received_bytes = 0
        self._stream = stream
        self._live = stream.isatty()
        self._shown = 0
        self._last = ""
        self._said: tuple[str, str] = ("", "")
        self._said_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        self.received_bytes = max(self.received_bytes, progress.received_bytes)
        text = str(progress)
        if self._live:
            width = max(20, shutil.get_terminal_size().columns - 1)
            text = text[:width]
            self._stream.write("\r" + text.ljust(self._shown))
            self._stream.flush()
            self._shown = len(text)
            return
        # A log: each new turn of events once, and a sign of life every ten seconds.
        turn = (progress.phase, progress.file)
        now = time.monotonic()
        is_news = turn != self._said or now - self._said_at >= _LINE_EVERY_S
        if is_news and text != self._last and progress.phase != "done":
            self._stream.write(f"{text}\n")
            self._stream.flush()
            self._said, self._said_at, self._last = turn, now, text

    def note(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._clear()
        self._stream.write(f"{plain_text(sentence, 2000)}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live and self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0
