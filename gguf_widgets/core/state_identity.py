"""What a saved state belongs to: the model file, the settings that change its numbers, the runtime.

Promises: a state is taken back only where computing it again would give the same, as far as that
can be known without reading gigabytes; what differs is said by name. Leaves to others: the file
that it is saved in (`state_file.py`).

Two model files count as the same if their sizes are and so are their first megabyte, their last
block and a thousand blocks spread evenly between: any two trainings or precisions of a model differ
in nearly every block. A file that was put in the place of the loaded one is noticed too, by what
the system says of it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import StateFileError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.types import LoadSettings, ModelInfo

__all__ = ["ModelFiles", "ModelIdentity", "StateIdentity", "check_same"]

_HEAD_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 1 << 12
_NUM_BLOCKS: Final = 1024

# Whatever these are, the same tokens give the same state. A setting that is not here counts, and so
# does one that is added some day, until somebody has thought about it.
_OF_NO_CONSEQUENCE: Final = frozenset(
    {
        "chat_template",
        "kv_unified",  # `runtime` says how many caches a state lists
        "mmproj",  # only a prompt's images know it, and these are not saved
        "n_batch",
        "n_ctx",
        "n_draft",
        "n_gpu_layers",
        "n_seq_max",
        "n_threads",
        "n_ubatch",
        "use_mlock",
        "use_mmap",
    }
)


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, for people, and `digest`, which decides."""

    name: str
    architecture: str
    quantization: str
    n_vocab: int
    n_layer: int
    n_embd: int
    size_bytes: int
    digest: str

    def __str__(self) -> str:
        facts = (self.architecture, self.quantization, format_bytes(self.size_bytes))
        return f'"{self.name}" ({", ".join(facts)})'


class StateIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be the same for a state to mean the same.

    `settings` are those of the loading that change a state's numbers or their layout; `runtime` is
    how the backend writes states.
    """

    model: ModelIdentity
    settings: dict[str, Any]
    runtime: str

    @classmethod
    def of(
        cls, info: ModelInfo, digest: str, settings: LoadSettings, runtime: str
    ) -> StateIdentity:
        """Describe a loaded model; `settings` are the effective ones."""
        told = msgspec.json.decode(msgspec.json.encode(settings.to_dict()))  # as read from a file
        return cls(
            model=ModelIdentity(
                name=info.name,
                architecture=info.architecture,
                quantization=info.quantization,
                n_vocab=info.n_vocab,
                n_layer=info.n_layer,
                n_embd=info.n_embd,
                size_bytes=info.size_bytes,
                digest=digest,
            ),
            settings={
                name: value for name, value in told.items() if name not in _OF_NO_CONSEQUENCE
            },
            runtime=f"{runtime}, {sys.byteorder}-endian",
        )


class ModelFiles:
    """The files of a loaded model as they were when it was loaded.

    Parameters
    ----------
    path : str or Path
        The model file, or the first part of a split one.
    backend : str
        The scripted backend reads no file, so there is nothing to look at.
    """

    def __init__(self, path: str | os.PathLike[str], backend: str) -> None:
        self._paths = [] if backend == "scripted" else _all_parts(Path(path))
        self._then = self._status()
        self._digest: str | None = None

    def digest(self) -> str:
        """Return what tells this model's files from any others.

        Raises
        ------
        StateFileError
            "model_changed" if they are not the files that were loaded, or cannot be read any more.
        """
        if self._digest is None:
            digest = hashlib.sha256()
            try:
                for path in self._paths:
                    _add_file(digest, path)
            except OSError as error:
                raise self._changed() from error
            self._digest = digest.hexdigest()
        # Afterwards: what was read is then what was loaded.
        if self._status() != self._then:
            self._digest = None
            raise self._changed()
        return self._digest

    def _status(self) -> Sequence[tuple[int, ...] | None]:
        return [_status_of(path) for path in self._paths]

    def _changed(self) -> StateFileError:
        return StateFileError(
            "The model's file has been changed, moved or removed since it was loaded, so it cannot "
            "be said which model a saved prefix belongs to. Unload the model and load it again.",
            problem="model_changed",
            path=_text(self._paths[0]) if self._paths else "",
        )


def check_same(saved: StateIdentity, here: StateIdentity, name: str) -> None:
    """Raise `StateFileError` if a state that was saved elsewhere means something else here.

    Parameters
    ----------
    saved, here : StateIdentity
    name : str
        What the file is called in the message.

    Raises
    ------
    StateFileError
        "other_model", "other_settings" or "other_runtime".
    """
    # A file that was only renamed is still the same model.
    if msgspec.structs.replace(saved.model, name="") != msgspec.structs.replace(
        here.model, name=""
    ):
        raise StateFileError(
            f"{name} was saved with {_how_other(saved.model, here.model)}. Load that model, or save"
            " the prefix again with this one.",
            problem="other_model",
            saved=msgspec.to_builtins(saved.model),
            loaded=msgspec.to_builtins(here.model),
        )
    names = sorted({*saved.settings, *here.settings})
    differing = [one for one in names if saved.settings.get(one) != here.settings.get(one)]
    if differing:
        told = "; ".join(
            f"{one} was {saved.settings.get(one)!r} and is {here.settings.get(one)!r} now"
            for one in differing
        )
        raise StateFileError(
            f"{name} was saved with other settings: {told}. Load the model with those, or save the"
            " prefix again.",
            problem="other_settings",
            settings=differing,
        )
    if saved.runtime != here.runtime:
        raise StateFileError(
            f"{name} was saved by {saved.runtime}; this is {here.runtime}, which may read it"
            " otherwise. Save the prefix again.",
            problem="other_runtime",
            saved=saved.runtime,
            here=here.runtime,
        )


def _how_other(saved: ModelIdentity, here: ModelIdentity) -> str:
    if (saved.name, saved.architecture) != (here.name, here.architecture):
        return f"another model, {saved}; the one that is loaded is {here}"
    if saved.quantization != here.quantization:
        return (
            f"the same model in another precision, {saved.quantization}; the one that is loaded is"
            f" {here.quantization}"
        )
    return f"another file of the model {here}: not the same numbers"


def _all_parts(path: Path) -> list[Path]:
    name = split_name(path)
    if name is None:
        return [path]
    return [name.path_of(number, path.parent) for number in range(1, name.num_parts + 1)]


def _status_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _add_file(digest: Any, path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        digest.update(file.read(_HEAD_BYTES))
        last = max(0, size - _BLOCK_BYTES)
        for number in range(_NUM_BLOCKS):
            file.seek(last * number // (_NUM_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
