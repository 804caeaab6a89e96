"""The models on this machine, wherever another program put them.

Promises: the names below are all that others need; see `inventory`. Leaves to others: each file is
about one thing. `scan` finds files; ``hugging_face`` to ``textgen`` know where each program keeps
what, `places` the folders of a person and of a system, `folders` those that were added, and single
files, `sources` all of these in order. ``browse`` and its neighbours are what a page may look at to
add one. `facts` judges a header and `cache` remembers it; `projectors` pairs what belongs together;
`judge` says what fits; `hashes` and `duplicates` tell copies apart; `usage` knows when a model was
loaded last. `items`, `entry`, `query` and `model_list` are what comes out; `small_file` is how
small files are kept.
"""

from __future__ import annotations

from gguf_widgets.core.library.entry import ModelEntry
from gguf_widgets.core.library.folders import add_file, add_folder, remove_file, remove_folder
from gguf_widgets.core.library.folders import files as added_files
from gguf_widgets.core.library.folders import folders as added_folders
from gguf_widgets.core.library.inventory import DEMO_NAME, ModelLibrary, models
from gguf_widgets.core.library.items import Place
from gguf_widgets.core.library.model_list import ModelList
from gguf_widgets.core.library.usage import note_use

__all__ = [
    "DEMO_NAME",
    "ModelEntry",
    "ModelLibrary",
    "ModelList",
    "Place",
    "add_file",
    "add_folder",
    "added_files",
    "added_folders",
    "models",
    "note_use",
    "remove_file",
    "remove_folder",
]
