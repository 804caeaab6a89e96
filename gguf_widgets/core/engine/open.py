"""The one place where a backend is chosen and opened.

Promises: the native runtime is imported only when it is asked for. Leaves to others: which backend
a machine can use (the manager), and which settings suit it (`fit.py`).
"""

from __future__ import annotations

from pathlib import Path

from gguf_widgets.core.engine.backend import Backend, LoadProgress
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.types import LoadSettings

__all__ = ["BACKENDS", "open_backend", "open_vision"]

BACKENDS = ("llama.cpp", "scripted")


def open_backend(
    kind: str,
    path: Path | str | None,
    settings: LoadSettings,
    on_progress: LoadProgress | None = None,
) -> Backend:
    """Load a model.

    Parameters
    ----------
    kind : str
        "llama.cpp" or "scripted" (demo mode: prepared answers, no model).
    path : Path or str or None
        The model file; the scripted backend needs none and does not read it.
    settings : LoadSettings
        What is None is chosen by the backend.
    on_progress : callable, optional
        Called with the fraction loaded, 0 to 1; answering False cancels the load.

    Raises
    ------
    InvalidValueError
        For an unknown kind, a missing path, or settings out of range.
    MissingDependencyError
        If llama-cpp-python is not installed or does not start.
    ModelLoadError
        If the model could not be loaded; `details["cancelled"]` if `on_progress` said so.
    NotEnoughMemoryError
        If there was not enough memory.
    ModelFileError
        If a projector is asked for that does not belong to the model; see `open_vision`.
    """
    settings.check()
    if kind == "scripted":
        if settings.lora:
            raise InvalidValueError(
                "Demo mode has prepared answers and no model, so there is nothing that an adapter"
                " (lora) could change. Leave it out, or install llama-cpp-python."
            )
        from gguf_widgets.core.engine.scripted import ScriptedBackend

        return ScriptedBackend.open(settings, on_progress)
    if kind == "llama.cpp":
        if path is None:
            raise InvalidValueError("No model file was named.")
        try:
            from gguf_widgets.core.engine.llama import LlamaBackend
        except (ImportError, OSError, RuntimeError) as error:  # a library that does not load, too
            raise MissingDependencyError(
                f"llama-cpp-python, which runs the models, cannot be used here: {error}"
                " Install it with: pip install 'gguf-widgets[llama]'"
            ) from error
        backend = LlamaBackend(Path(path), settings, on_progress)
        if settings.mmproj:
            try:
                open_vision(backend, path, settings.mmproj)
            except BaseException:
                backend.close()
                raise
        return backend
    raise InvalidValueError(f"There is no backend {kind!r}; there are {', '.join(BACKENDS)}.")


def open_vision(backend: Backend, path: Path | str, mmproj: Path | str) -> None:
    """Let a loaded model see with a projector, which is judged first.

    Raises
    ------
    ModelFileError
        `MmprojFileError` if it is none, or not one for this model.
    MissingDependencyError
        If llama.cpp's library for images is not there.
    ModelLoadError
        If it could not be loaded.
    """
    from gguf_widgets.core.engine.llama import LlamaBackend
    from gguf_widgets.core.gguf import check_is_projector, read_header

    if not isinstance(backend, LlamaBackend):
        raise InvalidValueError("Demo mode has prepared answers: it has no use for an mmproj file.")
    facts = check_is_projector(read_header(mmproj), read_header(path))
    backend.open_vision(Path(mmproj), facts.num_blocks)
