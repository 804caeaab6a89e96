"""The models of text-generation-webui.

Promises: the models folders of copies in the home folder. Leaves to others: its other formats.

The layout: ``user_data/models`` in the program's folder (since 2025; ``modules/paths.py`` in
``oobabooga/text-generation-webui``), where a portable copy prefers a ``user_data`` beside it;
before, ``models`` in the program's folder. Files lie there as such or in a folder for each model.

The program is unpacked or cloned anywhere, usually into the home folder and under its own name with
a version; there we look for it. `folders.add_folder` is for all other places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gguf_widgets.core.library.items import Folder, Source
from gguf_widgets.core.library.places import UserDirs
from gguf_widgets.core.library.scan import Budget

__all__ = ["TEXT_GENERATION_WEBUI"]

_NAMES: Final = ("text-generation-webui", "textgen", "oobabooga")


def _find(dirs: UserDirs, budget: Budget) -> Iterator[Folder]:
    try:
        children = budget.children(dirs.home)
    except OSError:
        return
    for path, is_folder in children:
        if is_folder and path.name.lower().startswith(_NAMES):
            yield Folder(path / "user_data" / "models")
            yield Folder(path / "models")
            # The one-click installer of 2023 put the program one folder deeper.
            yield Folder(path / "text-generation-webui" / "models")
            yield Folder(path.parent / "user_data" / "models")


TEXT_GENERATION_WEBUI: Final = Source("textgen", "text-generation-webui", _find)
