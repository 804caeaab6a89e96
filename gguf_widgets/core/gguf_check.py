"""Whether a GGUF file is a model that can be loaded, as far as its header can tell.

Promises: each kind of file that people take for a model (a vocabulary, a projector, an adapter)
is refused in its own words, with what to choose instead. Leaves to others: memory (`fit`), and
whether llama.cpp knows the architecture (the worker finds out).
"""

from __future__ import annotations

from gguf_widgets.core.errors import (
    MalformedHeaderError,
    NotAModelError,
    ProjectorFileError,
    VocabularyOnlyError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_header import MOST_LAYERS, GgufHeader
from gguf_widgets.core.gguf_tables import REMOVED_TENSOR_TYPES

__all__ = ["check_is_model"]


def check_is_model(header: GgufHeader) -> None:
    """Raise unless this is a model that can be loaded and talked to, as far as a header can tell.

    Raises
    ------
    ProjectorFileError
        An mmproj file: the eyes or ears of another model.
    NotAModelError
        An adapter, an importance matrix, a control vector; a file that names no architecture, or in
        a number format that llama.cpp has given up.
    VocabularyOnlyError
        No weights.
    MalformedHeaderError
        Numbers that every model has are missing or impossible.
    """
    name, path = shown(header.path), str(header.path)
    kind, arch = header.text("general.type"), header.architecture
    if kind == "mmproj" or arch == "clip":
        raise ProjectorFileError(
            f"{name} is the image or sound companion (mmproj) of a model, not a model. "
            "Choose the model that it belongs to.",
            path=path,
        )
    for is_so, what in (
        (kind == "adapter", "an adapter (LoRA): a small change to another model"),
        (
            kind == "imatrix",
            "an importance matrix, used only for making smaller versions of a model",
        ),
        (arch == "controlvector", "a control vector: a small change to another model"),
    ):
        if is_so:
            then = " This file can be added to it in Python: load(model, lora=this file)."
            raise NotAModelError(
                f"{name} is {what}. Choose the model itself.{then if kind == 'adapter' else ''}",
                path=path,
                kind=kind or arch,
            )
    if not header.tensors:
        raise VocabularyOnlyError(
            f"{name} holds a vocabulary only and no weights, so there is nothing to talk to. "
            "Choose a complete model.",
            path=path,
        )
    if not arch:
        raise NotAModelError(
            f"{name} does not say what kind of model it is (general.architecture is missing), so "
            "llama.cpp cannot load it. Look for another version.",
            path=path,
        )
    removed = next((t for t in header.tensors if t.type_id in REMOVED_TENSOR_TYPES), None)
    if removed is not None:
        old, instead = REMOVED_TENSOR_TYPES[removed.type_id]
        raise NotAModelError(
            f"{name} stores its weights as {old}, which llama.cpp has given up. "
            f"Get the same model as {instead}.",
            path=path,
            tensor_type=old,
        )
    info = header.info()
    if info.n_layer > MOST_LAYERS:
        raise MalformedHeaderError(
            f"{name} is damaged or was written wrongly. By its header it has {info.n_layer:,} "
            "layers. Download or copy it again.",
            path=path,
        )
    for value, key, what in (
        (info.n_ctx_train, "context_length", "how long its context is"),
        (info.n_layer, "block_count", "how many layers it has"),
        (info.n_embd, "embedding_length", "how wide it is"),
    ):
        if value < 1:
            raise MalformedHeaderError(
                f"{name} does not say {what} ({plain_text(arch)}.{key} is missing or 0), "
                "so it cannot be loaded. Look for another version.",
                path=path,
            )
