"""One line of the list of models.

Promises: plain facts, and the two that cost something (`fit`, `sha256`) only when they are asked
for. Leaves to others: finding (`scan`), the list (`model_list`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from pathlib import Path
from typing import Literal

from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.hashes import Cancel, Progress, joined_sha256, sha256_of
from gguf_widgets.core.library.items import Place
from gguf_widgets.core.library.judge import Fit, Machine
from gguf_widgets.core.types import ModelInfo

__all__ = ["ModelEntry"]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of the list of models.

    Attributes
    ----------
    name : str
        Unique in its list; what `load` takes. Of an Ollama model its name and tag ("qwen3:4b").
    path : Path
        The file; of a split model the first part there is.
    info : ModelInfo or None
        None if the file cannot be used.
    error : GgufWidgetsError or None
        Why it cannot be used.
    source : str
        In words: "demo", "models folder", the folder that it was found in, "Ollama", ...
    program : str
        The same as a key: "demo", "own", "folder", "ollama", ...; `sources` has all.
    kind : {"model", "mmproj", "other"}
        "mmproj" is a projector that no model here goes with; "other" is whatever cannot be used.
    capabilities : tuple of str
        Of "chat", "tools", "reasoning", "vision", "audio", "embeddings"; `facts` says how
        they are judged.
    mmproj : Path or None
        The projector that it sees or hears with.
    mmproj_others : tuple of Path
        Others that would do, the better first.
    places : tuple of Place
        All the ways in which this one file is known, the first being `path` and `source`.
    last_used : datetime or None
        When it was loaded last, in UTC.
    known_sha256 : str or None
        As far as it is known without reading the file.
    """

    name: str
    path: Path
    info: ModelInfo | None
    error: GgufWidgetsError | None
    source: str
    program: str = "folder"
    kind: Literal["model", "mmproj", "other"] = "model"
    capabilities: tuple[str, ...] = ()
    mmproj: Path | None = None
    mmproj_others: tuple[Path, ...] = ()
    places: tuple[Place, ...] = ()
    last_used: dt.datetime | None = None
    known_sha256: str | None = None
    fingerprint: str = dataclasses.field(default="", repr=False)
    alike: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    machine: Machine = dataclasses.field(default_factory=Machine, repr=False, compare=False)

    @property
    def duplicates_of(self) -> tuple[str, ...]:
        """Names of other entries of the list that hold the same, as far as it is known.

        They have the same size and header, and no different SHA-256 that is known; see
        `ModelList.check_duplicates`.
        """
        return tuple(name for name in self.alike if name != self.name)

    @property
    def parts(self) -> tuple[Path, ...]:
        """All files of the model, in order."""
        split = split_name(self.path)
        if split is None or self.info is None or self.info.num_files == 1:
            return (self.path,)
        numbers = range(1, split.num_parts + 1)
        return tuple(split.path_of(number, self.path.parent) for number in numbers)

    @property
    def fit(self) -> Fit | None:
        """Whether it fits this machine; None for what cannot be used.

        The first time it takes some milliseconds, as the header is read for it. The memory that is
        free is asked for once for all models of a list: make a new list to ask again.
        """
        return self.machine.fit(self.path) if self.info is not None else None

    def sha256(
        self,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        fresh: bool = False,
    ) -> str:
        """Return the SHA-256 of the file, in hexadecimal digits; it is remembered.

        Of a split model it is the SHA-256 of those of its parts, written one after another: two
        copies of it have the same. `hashes.sha256_of` gives that of one file.

        Parameters
        ----------
        progress : callable, optional
            Called with how many bytes are done and how many there are in all parts.
        cancel : callable, optional
            Asked every few MB; answering True stops it.
        fresh : bool, default False
            Read the file even where Ollama, the Hugging Face cache or an earlier call has its hash.

        Raises
        ------
        FileChangeError
            ``details["problem"]`` is "unreadable", "changed" or "cancelled".
        """
        if self.known_sha256 is not None and not fresh:
            return self.known_sha256
        total = self.info.size_bytes if self.info is not None else 0
        before = 0
        hashes = []
        for part in self.parts:

            def report(done: int, size: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, max(total, before + size))

            hashes.append(sha256_of(part, progress=report, cancel=cancel, fresh=fresh))
            with contextlib.suppress(OSError):  # it was there just now; only the progress is off
                before += part.stat().st_size
        return joined_sha256(hashes)
