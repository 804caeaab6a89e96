"""What a page shows of looking after a model: pure functions from facts to plain data.

Promises: every value is a text or a number for the page to set as text, in everyday words; the
exact terms are in the tooltips. Leaves to others: the facts (`core.care`), drawing
(static/_picker_care.js and its like).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from gguf_widgets.core.care.checking import FileCheck, VerifyResult
from gguf_widgets.core.care.conversion_result import ConvertResult
from gguf_widgets.core.care.members import ModelFiles
from gguf_widgets.core.care.ownership import OURS, Ownership
from gguf_widgets.core.care.records import TrashEntry
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.library.sources import TITLES
from gguf_widgets.core.worker_facts import Worker, listed

__all__ = [
    "ask_to_remove",
    "ask_to_rename",
    "check_view",
    "convert_view",
    "error_content",
    "removed_text",
    "trash_view",
    "where_view",
]

Content = dict[str, Any]

_SHORT_HASH: Final = 12


def error_content(error: GgufWidgetsError) -> Content:
    """Return an error for the place where it happened."""
    details = error.details
    return {
        "text": error.message,
        "problem": str(details.get("problem", "")),
        "suggestion": str(details.get("suggestion") or ""),
    }


# -- where it is -----------------------------------------------------------------------------------


def where_view(
    entry: ModelEntry, owner: Ownership, files: ModelFiles | None, *, is_file: bool
) -> Content:
    """Return whose it is, where it is, and what can be done with it here.

    Parameters
    ----------
    entry : ModelEntry
    owner : Ownership
    files : ModelFiles or None
        None if what is at its path is no model file.
    is_file : bool
        Whether there is a file that can be read.
    """
    can = []
    if owner.is_ours and files is not None:
        can.append("rename")
    if files is not None and is_file:
        can.append("check")
    if entry.error is None and entry.kind == "model":
        can.append("convert")
    if owner.is_ours and files is not None:
        can.append("remove")
    says = str(owner)
    if owner.is_ours:  # how to remove it says the button
        says = says.removesuffix(owner.how_to_remove).strip()
    first = entry.places[1:] if entry.places else ()
    others = [
        {
            "label": _place_label(place.program, place.source, place.label),
            "path": str(place.path),
        }
        for place in first
    ]
    ending = ".gguf"
    num_parts = 1
    if files is not None and (split := split_name(files.parts[0])) is not None:
        ending = files.parts[0].name.removeprefix(split.stem)
        num_parts = len(files.parts)
    return {
        "program": "This program" if owner.owner == OURS else _whose(owner),
        "path": str(entry.path),
        "label": plain_text(entry.places[0].label, 200) if entry.places else "",
        "says": says,
        "others": others,
        "how": "" if owner.is_ours else owner.how_to_remove,
        "whose": "" if owner.is_ours else _belongs(owner),
        "can": can,
        "stem": files.stem if files is not None else entry.path.stem,
        "ending": ending,
        "numMore": len(files.members) - 1 if files is not None else 0,
        "numParts": num_parts,
    }


def _whose(owner: Ownership) -> str:
    return "A folder of your own" if owner.owner == "you" else owner.owner


def _belongs(owner: Ownership) -> str:
    if owner.owner == OURS:
        return "It came with this program."
    if owner.owner == "you":
        return "It is in a folder of your own that this program only reads."
    return f"It belongs to {owner.owner}."


def _place_label(program: str, source: str, label: str) -> str:
    where = TITLES.get(program, source) if program != "folder" else source
    said = f" as {plain_text(label, 100)}" if label else ""
    return f"{plain_text(where, 200)}{said}"


# -- questions -------------------------------------------------------------------------------------


def ask_to_remove(holders: Sequence[Worker], *, is_here: bool) -> Content:
    """Return what to ask before a model goes that is loaded.

    Parameters
    ----------
    holders : sequence of Worker
        Who has it.
    is_here : bool
        Whether this very picker has it loaded.
    """
    others = _others(holders, is_here=is_here)
    if is_here and not others:
        text = "It is loaded. It will be unloaded first, then it goes to the trash."
    elif is_here:
        text = (
            f"It is loaded here, and by {others}. Here it will be unloaded first; there it goes"
            " on working until it is unloaded, and cannot be loaded again."
        )
    elif others:
        text = (
            f"It is loaded by {others}. That goes on working until it is unloaded there; then it"
            " cannot be loaded again."
        )
    else:
        text = (
            "It is still in memory, though nobody uses it just now. It will be unloaded first, then"
            " it goes to the trash."
        )
    if is_here and any(worker.num_running or worker.num_waiting for worker in holders):
        text += " What it is writing just now stops."
    yes = "Unload and remove" if is_here or not others else "Remove it all the same"
    return {"text": text, "yes": yes, "no": "Keep it"}


def ask_to_rename(holders: Sequence[Worker], *, is_here: bool) -> Content:
    """Return what to ask before a model is renamed that is loaded; see `ask_to_remove`."""
    others = _others(holders, is_here=is_here)
    if others:
        text = f"It is loaded by {others}, and goes on there under its old name."
    elif is_here:
        text = "It is loaded, and goes on under its old name until you load it again."
    else:
        text = "It is still in memory under its old name, though nobody uses it just now."
    return {"text": text, "yes": "Rename it", "no": "Keep the name"}


def _others(holders: Sequence[Worker], *, is_here: bool) -> str:
    """Return who has it besides this picker, for a sentence; "" for nobody."""
    said = []
    for worker in holders:
        if worker.users is None:
            said.append(f"a process that does not answer (number {worker.pid})")
            continue
        own = [user for user in worker.users if user.pid == os.getpid()]
        rest = [user for user in worker.users if user.pid != os.getpid()]
        if own and not is_here:
            said.append("your own code in this notebook")
        if rest:
            said.append(listed(rest))
    return " and ".join(said)


# -- the trash -------------------------------------------------------------------------------------


def removed_text(entry: TrashEntry, notes: Sequence[str]) -> str:
    """Return what to say when something has gone to the trash."""
    name = plain_text(entry.name, 100)
    if entry.is_link:
        said = f"The link “{name}” is in the trash; the file that it leads to stays as it is."
    else:
        said = f"“{name}” is in the trash."
    return " ".join([said, *notes])


def trash_view(entries: Sequence[TrashEntry]) -> Content:
    """Return the fold at the end of the list."""
    return {
        "entries": [
            {
                "id": entry.id,
                "name": plain_text(entry.name, 200),
                "size": "a link" if entry.is_link else format_bytes(entry.size_bytes),
                "at": entry.removed_at,
                "missing": f"{entry.num_missing} of its files are lost"
                if entry.num_missing
                else "",
            }
            for entry in entries
        ],
        "room": format_bytes(sum(entry.size_bytes for entry in entries)),
    }


# -- a check ---------------------------------------------------------------------------------------


def check_view(result: VerifyResult) -> Content:
    """Return what a check has found."""
    bad = [file for file in result.files if file.matches is False]
    known = [file for file in result.files if file.compared]
    lines: list[str] = []
    if bad:
        wrong = next(one for one in bad[0].compared if not one.matches)
        which = "It" if len(result.files) == 1 else f"“{plain_text(bad[0].path.name, 100)}”"
        title = "This is not the file that it should be"
        lines.append(
            f"{which} differs from what {plain_text(wrong.source, 200)} says: it is damaged, or it"
            " is another file."
        )
    elif result.structure_error is not None:
        title = "The file is damaged"
        lines.append(result.structure_error)
    elif result.compared:
        title = "The file is whole"
        lines.append(f"It is, to the last byte, what {_sources_of(known)} says.")
    else:
        title = "The file looks whole"
        lines.append(
            "Nothing is known to compare it with, so nobody can tell whether each byte is right."
            " Pages that offer models show their SHA-256: paste it below. Later checks compare with"
            " what this one found."
        )
    if result.ok:
        lines += result.notes
    else:
        lines.append("Download it or copy it again, then check it once more.")
    return {
        "tone": "good" if result.ok and result.compared else "plain" if result.ok else "bad",
        "title": title,
        "lines": lines,
        "files": [_file_view(file) for file in result.files],
    }


def _sources_of(files: Sequence[FileCheck]) -> str:
    sources = [plain_text(one.source, 200) for file in files for one in file.compared]
    return " and ".join(dict.fromkeys(sources))


def _file_view(file: FileCheck) -> Content:
    wrong = [one for one in file.compared if not one.matches]
    return {
        "name": plain_text(file.path.name, 200),
        "sha256": file.sha256,
        "short": f"{file.sha256[:_SHORT_HASH]}…",
        "size": format_bytes(file.size_bytes),
        "expected": wrong[0].sha256 if wrong else "",
    }


# -- a smaller copy --------------------------------------------------------------------------------


def convert_view(result: ConvertResult) -> Content:
    """Return what a conversion has made."""
    before, after = result.size_before_bytes, result.size_after_bytes
    share = round(100 * (1 - after / before)) if before else 0
    change = f"{share}% smaller" if share > 0 else f"{-share}% larger" if share < 0 else "as large"
    # In everyday words; how many tensors it was is said by the command.
    notes = [note for note in result.notes if not note.startswith(f"{result.num_fallback:,} of")]
    if result.num_fallback:
        notes.append("Parts of it could not be made quite so small, so it is a little larger.")
    sizes = f"{format_bytes(after)} instead of {format_bytes(before)}, {change}"
    return {
        "tone": "good",
        "title": f"“{plain_text(result.name, 100)}” is ready",
        "lines": [f"{sizes}. It is in the list now; the first one is as it was.", *notes],
        "path": str(result.path),
        "files": [],
    }
