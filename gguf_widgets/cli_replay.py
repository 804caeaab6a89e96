"""The command ``replay``: an experiment asked again, and what is the same and what is not.

Promises: the exit status says it too: 0 if everything is the same, 1 if something differs, 2 if it
cannot be said (no such file, the model is gone, stopped before the end); standard output has the
result alone, as text or as JSON. Leaves to others: asking (`experiments`), errors (`cli`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.experiments.replay import Replay

__all__ = ["add_commands"]

_SAME, _DIFFERENT, _CANNOT = 0, 1, 2
_MOST_ROWS: Final = 20

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the command to the program's own; see `cli_run.add_commands`."""
    command = add(
        "replay", _replay, "Ask an experiment again and say what is the same and what is not."
    )
    command.add_argument(
        "experiment",
        nargs="?",
        help="a file that Experiment.save() wrote, or the id of one in the store (default: the "
        "list of those in the store)",
    )
    command.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]MODEL",
        help="ask this model in place of the recorded one; with several models, by the recorded "
        "name",
    )
    command.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of loading to change, such as n_ctx=4096; may be given several times",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of every request to change, such as temperature=0.5",
    )
    command.add_argument("--rows", action="store_true", help="print every answer, also the same")
    command.add_argument("--json", action="store_true", help="for programs")


def _replay(arguments: argparse.Namespace) -> int:
    from gguf_widgets.experiments.experiment import load_experiment

    if arguments.experiment is None:
        return _list(as_json=arguments.json)
    try:
        experiment = load_experiment(arguments.experiment)
        replay = experiment.replay(
            model=_models(arguments.model),
            load=_settings("--load", arguments.load),
            sampling=_settings("--set", arguments.set),
            wait=False,
            progress=_Line(),
        )
    except GgufWidgetsError as error:
        sys.stderr.write(f"gguf-widgets: {error.message}\n")
        return _CANNOT
    try:
        replay.wait()
    except KeyboardInterrupt:  # what was repeated is told all the same
        replay.stop()
    finally:
        _Line.end()
    _tell(replay, as_json=arguments.json, all_rows=arguments.rows)
    replay.close()
    if replay.same is None:
        return _CANNOT
    return _SAME if replay.same else _DIFFERENT


def _tell(replay: Replay, *, as_json: bool, all_rows: bool) -> None:
    if as_json:
        _put(json.dumps(replay.to_dict(), indent=2))
        return
    _put(replay.words)
    rows = [row for row in replay.rows if all_rows or row.state == "different"]
    shown = rows if all_rows else rows[:_MOST_ROWS]
    for row in shown if len(rows) > 1 or all_rows else []:
        _put(f"  {row.state:12} {row.label}{': ' if row.words else ''}{row.words}")
    if len(rows) > len(shown):
        _put(f"  and {len(rows) - len(shown):,} more (--rows prints all)")


def _list(*, as_json: bool) -> int:
    from gguf_widgets.core import tables
    from gguf_widgets.core.store.experiments import KeptExperiments
    from gguf_widgets.core.store.store import default_store

    found = KeptExperiments(default_store()).recent()
    if as_json:
        facts = [
            {"id": one.id, "title": one.title, "created_at": one.created_at, "items": one.num_items}
            for one in found
        ]
        _put(json.dumps(facts, indent=2))
    elif not found:
        _put(
            "There are no experiments yet. To record one, in Python: "
            "with gguf_widgets.Experiment(title): ..."
        )
    else:
        rows = [
            [
                one.id[:8],
                plain_text(one.title, 40),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created_at)),
                f"{one.num_items:,}",
            ]
            for one in found
        ]
        _put(tables.as_text(["id", "title", "begun", "items"], rows))
    return 0


def _models(given: Sequence[str]) -> Any:
    """Return what ``--model`` says: one for all, or by the recorded name."""
    if not given:
        return None
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return given[0]
    return dict(_pair("--model", one) for one in given)


def _settings(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Return settings by name; what is no JSON is a text."""
    found: dict[str, Any] = {}
    for one in given:
        name, text = _pair(option, one)
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            found[name] = text
    return found


def _pair(option: str, given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name.strip():
        raise InvalidValueError(
            f"{option} is {plain_text(given, 60)!r}; it should be NAME=VALUE.", value=given[:60]
        )
    return name.strip(), value


def _put(text: str) -> None:
    sys.stdout.write(f"{text}\n")


class _Line:
    """Says how far it is: on a terminal one line that changes, elsewhere nothing."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, fraction: float, phrase: str) -> None:
        if not sys.stderr.isatty():
            return
        text = f"{fraction:4.0%} {phrase}"
        if text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()

    @staticmethod
    def end() -> None:
        """Take the line away."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
