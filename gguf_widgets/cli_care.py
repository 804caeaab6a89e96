"""The commands that look after model files: rename, remove, trash, restore, verify, convert, where.

Promises: what cannot be undone is asked about, at a terminal by a question and elsewhere by having
to say ``--yes``; long work shows how far it is on a terminal and nothing elsewhere; Ctrl+C leaves
everything as it was. Nothing is imported before a command runs. Leaves to others: the work
(`core.care`), errors and the exit status of Ctrl+C (`cli`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from gguf_widgets.core.errors import FileChangeError, InvalidValueError, ModelInUseError
from gguf_widgets.core.format import format_bytes, format_duration, plain_text

if TYPE_CHECKING:
    from gguf_widgets.core.care.progress import OnProgress, Progress

__all__ = ["add_commands"]

_DAY_S = 86_400.0
_JSON = "for programs"

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


class _Result(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def add_commands(add: Add) -> None:
    """Add the commands to the program's own.

    Parameters
    ----------
    add : callable
        Takes a name, a function of the arguments that returns the exit status, and a summary;
        returns the command's parser.
    """
    command = add("rename", _rename, "Give a model another name: all its files.")
    command.add_argument("model", help="a name or a path")
    command.add_argument("name", help="the new name, without .gguf")
    _add_yes(command, "also if it is loaded")

    command = add("remove", _remove, "Move a model to the trash, from where it can be had back.")
    command.add_argument("model", help="a name or a path")
    _add_yes(command, "also if it is loaded")

    command = add("trash", _trash, "List the models in the trash, or delete them for good.")
    command.add_argument(
        "which", nargs="*", metavar="ID", help="with --empty: only these (ids or names)"
    )
    command.add_argument("--empty", action="store_true", help="delete them for good")
    command.add_argument(
        "--older-than", type=float, metavar="DAYS", help="with --empty: only what is older"
    )
    _add_yes(command, "delete without asking")

    command = add("restore", _restore, "Bring a model back from the trash.")
    command.add_argument("which", metavar="ID", help='its id or name; "gguf-widgets trash" lists')
    command.add_argument("--name", help="another name than it had")
    command.add_argument("--json", action="store_true", help=_JSON)

    command = add("verify", _verify, "Read a whole model and check its hash and its structure.")
    command.add_argument("model", help="a name or a path")
    command.add_argument(
        "--sha256", action="append", metavar="HASH", help="what it should be; once for each file"
    )
    command.add_argument("--json", action="store_true", help=_JSON)

    command = add("convert", _convert, "Write another quantization of a model, to a new file.")
    command.add_argument("model", help="a name or a path")
    command.add_argument(
        "quantization", nargs="?", help="such as Q4_K_M (default: list them with their sizes)"
    )
    command.add_argument("--name", help="what the new model is called")
    command.add_argument("--folder", help="where it goes (default: the models folder)")
    command.add_argument(
        "--requantize",
        action="store_true",
        help="also a model that is quantized already, which loses quality",
    )
    command.add_argument("--threads", type=int, help="how many (default: one for each core)")
    command.add_argument("--json", action="store_true", help=_JSON)

    command = add(
        "where", _where, "Say in which program a model lives, and how to remove it there."
    )
    command.add_argument("model", help="a name or a path")
    command.add_argument("--json", action="store_true", help=_JSON)


def _add_yes(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--yes", action="store_true", help=what)
    command.add_argument("--json", action="store_true", help=_JSON)


def _rename(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.renaming import rename

    result = _confirmed(
        lambda confirm: rename(arguments.model, arguments.name, confirm=confirm),
        "Rename it all the same?",
        yes=arguments.yes,
    )
    return _show(result, as_json=arguments.json)


def _remove(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.removing import remove

    with _progress("Copying to the trash, which is on another disk") as on_progress:
        result = _confirmed(
            lambda confirm: remove(arguments.model, confirm=confirm, on_progress=on_progress),
            "Remove it all the same?",
            yes=arguments.yes,
        )
    return _show(result, as_json=arguments.json)


def _trash(arguments: argparse.Namespace) -> int:
    if not arguments.empty:
        if arguments.which or arguments.older_than is not None:
            raise InvalidValueError("An id or --older-than goes with --empty only.")
        return _list_trash(as_json=arguments.json)
    from gguf_widgets.core.care.removing import empty_trash, trash

    older_than = None if arguments.older_than is None else arguments.older_than * _DAY_S
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise InvalidValueError("--older-than is a number of days from 0 up.")
    if not arguments.yes:
        size = sum(entry.size_bytes for entry in trash())
        which = "all that is in the trash"
        if arguments.which:
            which = ", ".join(plain_text(one, 60) for one in arguments.which)
        elif older_than is not None:
            which = f"what has been in the trash for {format_duration(older_than)}"
        question = f"Delete {which} for good? The trash holds {format_bytes(size)} in all."
        if not _ask(question):
            raise FileChangeError(
                "Nothing was deleted. Say --yes to delete without being asked.", problem="asked"
            )
    result = empty_trash(older_than=older_than, ids=arguments.which or None)
    _show(result, as_json=arguments.json)
    return 1 if result.notes else 0


def _list_trash(*, as_json: bool) -> int:
    from gguf_widgets.core.care.removing import trash
    from gguf_widgets.core.tables import as_text

    entries = trash()
    if as_json:
        _write(json.dumps([entry.to_dict() for entry in entries], indent=2))
        return 0
    if not entries:
        _write("The trash is empty.")
        return 0
    rows = [
        (
            entry.id,
            entry.name,
            "a link" if entry.is_link else format_bytes(entry.size_bytes),
            "unknown"
            if entry.removed_at is None
            else time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.removed_at)),
        )
        for entry in entries
    ]
    _write(as_text(("Id", "Name", "Size", "Removed"), rows))
    _write('\n"gguf-widgets restore ID" brings one back; "gguf-widgets trash --empty" deletes all.')
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.removing import restore

    with _progress("Copying back from the trash, which is on another disk") as on_progress:
        result = restore(arguments.which, arguments.name, on_progress=on_progress)
    return _show(result, as_json=arguments.json)


def _verify(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.checking import verify

    with _progress("Reading") as on_progress:
        result = verify(arguments.model, arguments.sha256, on_progress=on_progress)
    _show(result, as_json=arguments.json)
    return 0 if result.ok else 1


def _convert(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.converting import convert, quantizations

    if arguments.quantization is None:
        listed = quantizations(arguments.model)
        if arguments.json:
            _write(json.dumps([one.to_dict() for one in listed], indent=2))
        else:
            _write(repr(listed))
            if any(one.loses_quality for one in listed):
                _write(
                    "\nThe model is quantized already: converting it again loses quality, and has "
                    "to be asked for (--requantize)."
                )
        return 0

    def run(requantize: bool) -> _Result:
        with _progress("Converting") as on_progress:
            return convert(
                arguments.model,
                arguments.quantization,
                name=arguments.name,
                folder=arguments.folder,
                requantize=requantize,
                n_threads=arguments.threads,
                on_progress=on_progress,
            )

    try:
        result = run(arguments.requantize)
    except FileChangeError as error:
        if error.details.get("problem") != "requantize" or not _ask(
            f"{error.message}\nConvert it all the same?"
        ):
            raise
        result = run(True)
    return _show(result, as_json=arguments.json)


def _where(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.care.members import model_files
    from gguf_widgets.core.care.ownership import owner_of
    from gguf_widgets.core.library import ModelLibrary

    path = model_files(arguments.model).parts[0]
    # The list knows more than the path says: programs can be told to keep models anywhere.
    entry = next((entry for entry in ModelLibrary().entries() if entry.path == path), None)
    return _show(owner_of(path if entry is None else entry), as_json=arguments.json)


# --- inside ---


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show(result: _Result, *, as_json: bool) -> int:
    _write(json.dumps(result.to_dict(), indent=2) if as_json else str(result))
    return 0


def _confirmed(work: Callable[[bool], _Result], question: str, *, yes: bool) -> _Result:
    """Do something that has to be confirmed for a model that is loaded."""
    try:
        return work(yes)
    except ModelInUseError as error:
        if _ask(f"{error.message}\n{question}"):
            return work(True)
        raise ModelInUseError(
            f"{error.message} To confirm it here, say --yes.", **error.details
        ) from error


def _ask(question: str) -> bool:
    """Ask at a terminal; elsewhere the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[OnProgress | None]:
    """Show how far it is in one line of a terminal, which is gone again at the end."""
    if not sys.stderr.isatty():
        yield None
        return
    longest = 0

    def show(progress: Progress) -> None:
        nonlocal longest
        line = f"{what}: {progress.fraction:.0%}"
        if progress.unit == "bytes":
            line += f", {format_bytes(progress.done)} of {format_bytes(progress.total)}"
        if progress.left_s:
            line += f", about {format_duration(round(progress.left_s) or 1)} left"
        longest = max(longest, len(line))
        sys.stderr.write(f"\r{line.ljust(longest)}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if longest:
            sys.stderr.write(f"\r{' ' * longest}\r")
            sys.stderr.flush()
