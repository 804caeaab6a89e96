"""Loading a model inside the worker, and what is done with text there.

Promises: everything here may be called by the preparing threads while the engine steps, except
`load`, which belongs to the engine's thread. Leaves to others: the backend (`core.engine`), prompts
(`prompts`).
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core import fit_reservation
from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.open import open_backend, open_vision
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    LoadCancelledError,
)
from gguf_widgets.core.fit_measured import Measured, measure
from gguf_widgets.core.state_identity import ModelFiles
from gguf_widgets.core.types import (
    LoadSettings,
    ModelInfo,
)
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.prompts import Prompts
from gguf_widgets.core.worker.spec import WorkerSpec, printable

__all__ = ["LoadedModel", "changed_settings", "embeddings", "load"]


@dataclass
class LoadedModel:
    """An engine and the words around it.

    Attributes
    ----------
    engine : Engine
    info : ModelInfo
    files : ModelFiles
        As they were when the loading began.
    notes : tuple of str
        What the person should know.
    memory : Measured or None
        What the loading took.
    prompts : Prompts
        Makes what is sent from what is asked.
    """

    engine: Engine
    info: ModelInfo
    files: ModelFiles
    notes: tuple[str, ...] = ()
    memory: Measured | None = None
    prompts: Prompts = field(init=False)

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.engine)

    def embed_tokens(self, message: protocol.Embed) -> list[list[int]]:
        """Return the tokens of texts that are to be embedded; see `EmbeddingQueue.tokenize`."""
        if len(message.texts) > protocol.MAX_EMBED_TEXTS:
            raise InvalidValueError(
                f"{len(message.texts):,} texts were sent at once; at most"
                f" {protocol.MAX_EMBED_TEXTS:,} can be. Send them in parts."
            )
        return self.engine.embedding.tokenize(message.texts, message.first_index)

    def detokenize(self, tokens: list[int]) -> str:
        """Return the text of tokens, control tokens written out."""
        return self.engine.detokenize(tokens, special=True)


def embeddings(
    request_id: str, texts: list[list[int]], vectors: NDArray[np.float32]
) -> protocol.Embeddings:
    """Return the message with the vectors of some texts."""
    return protocol.Embeddings(
        request_id=request_id,
        num_texts=len(vectors),
        n_embd=vectors.shape[1],
        num_tokens=sum(map(len, texts)),
        vectors=vectors.astype("<f4").tobytes(),
    )


_WHY_CHANGED = {
    "n_batch": "a batch cannot be longer than the context",
    "n_ubatch": "it cannot be more than n_batch, and is n_batch where a model has a sliding window",
    "n_gpu_layers": "llama.cpp as it is installed here uses no graphics card",
    "use_mmap": "this system cannot do that",
    "use_mlock": "this system cannot do that",
}


def changed_settings(requested: LoadSettings, effective: LoadSettings) -> list[str]:
    """Say in a sentence each which settings that were asked for came out otherwise."""
    notes = []
    for name, wanted in requested.to_dict().items():
        given = getattr(effective, name)
        if wanted is None or given == wanted or name in ("chat_template", "mmproj"):
            continue
        if name == "n_ctx" and given > wanted:
            continue  # it is rounded up
        why = f": {_WHY_CHANGED[name]}" if name in _WHY_CHANGED else ""
        notes.append(f"{name} is {given} instead of {wanted}{why}.")
    return notes


def _changed_for_embedding(requested: LoadSettings, effective: LoadSettings) -> list[str]:
    """Do the same for a model that cannot write; say that as well."""
    notes = ["This is an embedding model: it turns texts into vectors and cannot write."]
    unused = ("n_batch", "n_ubatch", "n_seq_max", "n_draft")
    given = [name for name in unused if getattr(requested, name) is not None]
    if given:
        notes.append(f"With it {', '.join(given)} has no effect: that follows from the model.")
    if (requested.n_ctx or 0) > (effective.n_ctx or 0):
        notes.append(
            f"n_ctx is {effective.n_ctx} instead of {requested.n_ctx}: the model was made for no"
            " more."
        )
    compared = requested.replace(n_ctx=None, **dict.fromkeys(unused))
    return notes + changed_settings(compared, effective)


def load(spec: WorkerSpec, on_progress: Callable[[float, str], bool]) -> LoadedModel:
    """Load what the spec names; called on the thread that will own the engine.

    Raises
    ------
    ModelFileError, ModelLoadError, MissingDependencyError
        As the reader and the backend say.
    """

    def progress(fraction: float) -> bool:
        return on_progress(fraction, "Loading the model")

    _adopt_reservation(spec)
    if not on_progress(0.0, "Reading the file"):
        raise LoadCancelledError("The loading was stopped.", cancelled=True)
    notes = list(spec.notes)
    if spec.backend == "scripted":
        from gguf_widgets.core.engine.scripted import demo_info

        info = demo_info().replace(path=printable(spec.path))
    else:
        from gguf_widgets.core.gguf import check_is_adapter, check_is_model, read_header

        header = read_header(spec.path)
        check_is_model(header)
        for path, scale in spec.requested.lora:
            notes.append(check_is_adapter(read_header(path), header).note(scale))
        info = header.info()
        info = info.replace(path=printable(info.path))
    files = ModelFiles(spec.path, spec.backend)  # before: a file put there meanwhile is noticed
    backend = open_backend(spec.backend, spec.path, spec.chosen.replace(mmproj=""), progress)
    memory = _measured(spec)  # before there is anything else than the model
    if spec.chosen.mmproj:
        on_progress(1.0, "Loading the image companion")
        notes += _see(backend, spec)
    fit_reservation.settle(spec.reservation)
    engine = Engine(backend)
    noted = changed_settings if backend.can_write else _changed_for_embedding
    notes += noted(spec.requested, engine.settings)
    model = LoadedModel(engine=engine, info=info, files=files, notes=tuple(notes), memory=memory)
    if spec.backend != "scripted" and backend.can_write:  # the demo's template is the built-in one
        on_progress(1.0, "Trying the chat template")
        model.notes = (*model.notes, *model.prompts.template_notes())
    return model


def _see(backend: Backend, spec: WorkerSpec) -> list[str]:
    """Load the projector; return what there is to say of it.

    One that nobody named may be missing: text works without.
    """
    try:
        open_vision(backend, spec.path, spec.chosen.mmproj or "")
    except GgufWidgetsError as error:
        if not spec.mmproj_may_miss:
            backend.close()
            raise
        return [f"The model is loaded without its image companion: {error.message}"]
    return []


def _adopt_reservation(spec: WorkerSpec) -> None:
    """Hold the memory that was reserved for this model for as long as this process lives."""
    if spec.reservation:
        fit_reservation.adopt(spec.reservation)
        atexit.register(fit_reservation.drop, spec.reservation)


def _measured(spec: WorkerSpec) -> Measured | None:
    """Return what llama.cpp has allocated."""
    if spec.backend == "scripted":
        return None
    from gguf_widgets.core.engine.llama.library import log

    return measure(log.buffers)
