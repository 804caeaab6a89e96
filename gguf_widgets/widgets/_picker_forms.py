"""The sizes that a smaller copy of a model can have, as the picker's page offers them.

Promises: for each its estimated size, what it means in everyday words, a free name for the new
file, and, where it cannot be made, why; one is recommended where one is worth it. Leaves to others:
what is possible (`core.care.quantizations`), making it (`core.care.converting`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core import config
from gguf_widgets.core.care.converting import new_stem, own_name, quantizations
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.moves import LEFT_FREE_BYTES
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.quantizations import PLAIN_TYPES, Quantization
from gguf_widgets.core.care.renaming import free_stem
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import ModelEntry

__all__ = ["folder_for", "forms_of", "forms_view"]

Content = dict[str, Any]

# What to offer first, the best choice first; the others are under "More sizes".
_USUAL: Final = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q3_K_M", "Q2_K")
# Only these are good enough to be recommended; from the usual choice up.
_RECOMMENDED: Final = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
_WORTH_IT: Final = 0.95


def forms_of(entry: ModelEntry) -> Content:
    """Return the sizes for a listed model; its header is read for it.

    Raises
    ------
    ModelFileError
        The file is gone, or is no model any more.
    """
    forms = quantizations(entry)
    folder, names = _names_for(entry, [form.name for form in forms])
    return forms_view(entry, forms, names, folder=folder, free_bytes=_free_bytes(folder))


def forms_view(
    entry: ModelEntry,
    forms: Sequence[Quantization],
    names: dict[str, str],
    *,
    folder: Path,
    free_bytes: int | None,
) -> Content:
    """Return the sizes that a copy of a model can have.

    Parameters
    ----------
    entry : ModelEntry
    forms : sequence of Quantization
    names : dict of str to str
        For each form a free name for the new file, without its ending.
    folder : Path
        Where the new file goes.
    free_bytes : int or None
        What may be written there; None where the disk does not tell.
    """
    size = entry.info.size_bytes if entry.info is not None else 0
    own = entry.info.quantization if entry.info is not None else ""
    lossy = any(form.loses_quality for form in forms)
    shown = [_form_view(form, names, size, free_bytes) for form in forms]
    common = _common_refusal(forms)
    possible = {view["name"]: view for view in shown if not view["refusal"]}
    recommended = ""
    for name in _RECOMMENDED:
        view = possible.get(name)
        if view is not None and view["size"] < _WORTH_IT * size:
            recommended = name
            break
    for view in shown:
        view["recommended"] = view["name"] == recommended
    notes = []
    if common:
        notes.append(f"No other size can be made of this model: {common}")
    elif lossy:
        notes.append(
            f"This model was made smaller once already ({own}). Made smaller again it loses more"
            " than a copy of the full model of the same size would. If you can get the full model"
            " (F16), start from that."
        )
    if not common and not recommended:
        notes.append(
            "It is small already: what is smaller still would answer clearly worse."
            if possible
            else "No size can be made just now; each says why."
        )
    return {
        "path": str(entry.path),
        "forms": [] if common else shown,
        "notes": notes,
        "requantize": lossy,
        "present": format_bytes(size),
        "folder": str(folder),
        "room": "" if free_bytes is None else format_bytes(free_bytes),
    }


def _form_view(
    form: Quantization, names: dict[str, str], size: int, free_bytes: int | None
) -> Content:
    about = form.size_bytes or 0
    refusal = form.refusal or ""
    if not refusal and free_bytes is not None and about > free_bytes:
        refusal = (
            f"the disk has too little room: it needs about {format_bytes(about)}, and"
            f" {format_bytes(free_bytes)} can be used."
        )
    larger = about >= size
    meaning = form.meaning
    if larger and not refusal:
        meaning = "Not smaller than it is now, and no better."
    return {
        "name": form.name,
        "size": about,
        "about": format_bytes(about),
        "percent": round(100 * about / size) if size else 0,
        "meaning": meaning,
        "title": f"{form.bits_per_weight:g} bits for each of the model's numbers",
        "refusal": f"Not possible: {refusal}" if refusal else "",
        "usual": form.name in _USUAL and not larger and form.name not in PLAIN_TYPES,
        "file": names.get(form.name, ""),
    }


def _common_refusal(forms: Sequence[Quantization]) -> str:
    """Return the reason if it is the same one for all forms, which is of the model then."""
    reasons = {form.refusal for form in forms}
    only = reasons.pop() if len(reasons) == 1 else None
    return only or ""


def folder_for(entry: ModelEntry) -> Path:
    """Return where a copy of a model goes: beside it if that is ours; see `convert`."""
    return entry.path.parent if owner_of(entry.path).is_ours else config.models_dir()


def _names_for(entry: ModelEntry, forms: list[str]) -> tuple[Path, dict[str, str]]:
    """Return where copies go, and for each form a name that no file there has."""
    folder = folder_for(entry)
    files = model_files(entry)
    header = read_header(files.parts[0])
    stem = own_name(entry, files, header)
    try:
        taken = {path.name.casefold() for path in folder.iterdir()}
    except OSError:  # it is made when it is needed
        taken = set()
    names = {}
    for form in forms:
        try:
            name = new_stem(stem, header, form)
        except FileChangeError:  # the model's own name is one that no new file gets
            name = f"model-{form}"
        names[form] = free_stem(folder, name) if f"{name}.gguf".casefold() in taken else name
    return folder, names


def _free_bytes(folder: Path) -> int | None:
    """Return what may be written to a folder, which need not be there yet."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return max(0, shutil.disk_usage(place).free - LEFT_FREE_BYTES)
    except OSError:
        return None
