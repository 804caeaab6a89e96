"""Loading, sharing and unloading models.

Promises: a file is judged here, in the calling process, before any native code sees it; asking for
the same model and settings again returns the model that is there; `unload` gives the memory back at
once unless another notebook uses the model. Leaves to others: what a model can do (`model`), where
files are (`library`), processes (`worker`).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gguf_widgets.core import demo_mode, request_events
from gguf_widgets.core.demo_mode import demo_reason
from gguf_widgets.core.errors import (
    InvalidValueError,
    LoadCancelledError,
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    ModelUnloadedError,
    WorkerDiedError,
)
from gguf_widgets.core.library import DEMO_NAME, ModelLibrary, note_use
from gguf_widgets.core.load_fetch import fetched
from gguf_widgets.core.load_judge import Judge
from gguf_widgets.core.load_projector import (
    died_with_projector,
    left_out_after,
    with_projector,
)
from gguf_widgets.core.loaded_models import LoadedModels
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import registry
from gguf_widgets.core.worker.client import Progress
from gguf_widgets.core.worker.link import WorkerLink
from gguf_widgets.core.worker.spec import file_identity, printable
from gguf_widgets.core.workers import WorkerList, workers

__all__ = ["ModelManager", "default_manager", "demo_reason", "load"]

KEEP_ALIVE_S = 300.0
"""How long a worker stays when nobody uses its model any more."""

_Key = tuple[str, LoadSettings]


class ModelManager:
    """The models this process has loaded.

    Parameters
    ----------
    library : ModelLibrary, optional
        Where names are looked up.
    keep_alive : float, default 300
        Seconds that a worker stays, ready for the next notebook, after its last client has gone
        without unloading.
    """

    _all: weakref.WeakSet[ModelManager] = weakref.WeakSet()

    def __init__(
        self, library: ModelLibrary | None = None, *, keep_alive: float = KEEP_ALIVE_S
    ) -> None:
        if not 0 <= keep_alive <= 7 * 24 * 3600:
            raise InvalidValueError(
                f"keep_alive is {keep_alive}; it must be from 0 seconds to a week.",
                value=keep_alive,
            )
        self.library = library if library is not None else ModelLibrary()
        self._keep_alive_s = float(keep_alive)
        self._lock = threading.Lock()
        self._links: dict[_Key, WorkerLink] = {}
        self._loads: Counter[WorkerLink] = Counter()  # under way, in how many threads
        self._models: dict[tuple[WorkerLink, str | None], Model] = {}
        ModelManager._all.add(self)

    def load(
        self,
        name_or_path: str | os.PathLike[str] = DEMO_NAME,
        *,
        on_progress: Progress | None = None,
        force: bool = False,
        backend: str | None = None,
        **load_settings: Any,
    ) -> Model:
        """Load a model, or join it where it is loaded already.

        Parameters
        ----------
        name_or_path : str or path-like, default "demo"
            A name from `gguf_widgets.models()`, a file, or what is fetched first if it is not here:
            ``hf:owner/repo:Q4_K_M`` or an https address, see `core.download`.
        on_progress : callable, optional
            Called in this thread with how far it is (0 to 1) and a phrase; answering False stops
            the loading.
        force : bool, default False
            Load even if the memory does not seem to suffice.
        backend : {"llama.cpp", "scripted"}, optional
            By default llama.cpp if it is installed.
        **load_settings
            Fields of `LoadSettings`: ``n_ctx``, ``n_gpu_layers``, ... Images can be sent to a model
            with an image companion: ``mmproj``, or the one that the library pairs with it.

        Returns
        -------
        Model
            The same object as before if this process has loaded the same with the same settings.

        Raises
        ------
        InvalidValueError
            For a setting that is not allowed.
        ModelFileError
            If the file is missing, unreadable or no model.
        DownloadError
            If it could not be fetched.
        NotEnoughMemoryError
            If it needs more memory than is free.
        MissingDependencyError
            In demo mode, for any model but the demo.
        ChatTemplateError
            If a `chat_template` is given that does not work.
        ModelLoadError, WorkerError
            If the loading itself fails; `LoadCancelledError` if it was stopped.
        """
        settings = LoadSettings.from_keywords(**load_settings)
        found = fetched(name_or_path, on_progress)
        if found is not None:
            model = self.load(
                found[0], on_progress=on_progress, force=force, backend=backend, **load_settings
            )
            model.add_notes(found[1])
            return model
        path = self.library.resolve(name_or_path)
        chosen = self._backend_for(path, backend)
        try:
            return self._load(name_or_path, path, chosen, settings, on_progress, force=force)
        except MissingDependencyError as error:
            # llama_cpp is there and does not start. The demo can still be shown without it.
            # Where only the library for images is missing (it says so), text works.
            only_images = error.details.get("library") == "mtmd"
            if backend is not None or chosen != "llama.cpp" or only_images:
                raise
            demo_mode.note_broken_llama(error.message)
            if not self._is_demo(path):
                raise
            return self._load(name_or_path, path, "scripted", settings, on_progress, force=force)

    def loaded(self) -> LoadedModels:
        """Return the models that are loaded in this process, oldest first.

        Returns
        -------
        LoadedModels
            A list of `Model` that shows workers, clients, sequences, cells in use and memory.
        """
        with self._lock:
            return LoadedModels(
                (model, link) for (link, _), model in self._models.items() if model.loaded
            )

    def workers(self) -> WorkerList:
        """Return every process of yours on this machine that runs a model; see `workers`."""
        return workers()

    def is_running(
        self,
        name_or_path: str | os.PathLike[str] = DEMO_NAME,
        *,
        backend: str | None = None,
        **load_settings: Any,
    ) -> bool:
        """Say whether loading this would be a matter of joining: some worker holds it already."""
        settings = LoadSettings.from_keywords(**load_settings).replace(chat_template=None)
        try:
            path = self.library.resolve(name_or_path)
            chosen = self._backend_for(path, backend)
            settings = with_projector(settings, self.library, path, chosen)
            identity = file_identity(path, chosen, settings.other_files)
            return bool(registry.matching(identity, settings))
        except (ModelFileError, MissingDependencyError):
            return False

    def unload(self, model: Model) -> bool:
        """Give a model up; see `Model.unload`."""
        return model.unload()

    def demo_reason(self) -> str | None:
        """Say why this is the demo mode and how to leave it; None if it is not."""
        return demo_reason()

    def close(self) -> None:
        """End all connections; the workers stay for `keep_alive`, ready for the next process."""
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
            self._models.clear()
        for link in links:
            link.close(stop_worker=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside ---

    def _load(
        self,
        name_or_path: str | os.PathLike[str],
        path: Path,
        backend: str,
        settings: LoadSettings,
        on_progress: Progress | None,
        *,
        force: bool,
    ) -> Model:
        named = bool(settings.mmproj)
        found = with_projector(settings, self.library, path, backend)

        def attempt(settings: LoadSettings) -> Model:
            return self._load_as_told(
                name_or_path, path, backend, settings, on_progress, force=force, named=named
            )

        try:
            return attempt(found)
        except WorkerDiedError as error:
            if not found.mmproj:
                raise
            if named:
                raise died_with_projector(error, found.mmproj) from error
            # It is most likely the companion, which nobody asked for: the headers of both are good.
            model = attempt(found.replace(mmproj=""))
            model.add_notes([left_out_after(error, found.mmproj)])
            return model

    def _load_as_told(
        self,
        name_or_path: str | os.PathLike[str],
        path: Path,
        backend: str,
        settings: LoadSettings,
        on_progress: Progress | None,
        *,
        force: bool,
        named: bool,
    ) -> Model:
        requested = settings.replace(chat_template=None)
        with self._link_for(path, backend, requested, force=force, named=named) as link:
            judge = link.prepare
            assert isinstance(judge, Judge)  # noqa: S101 - what `_link_for` gives it
            began, num_judged = time.perf_counter(), judge.num_judged
            try:
                link.client(on_progress)
            except LoadCancelledError:
                judge.given_up()
                raise
            except (ModelLoadError, WorkerDiedError) as error:
                judge.failed(error)
                raise
            except BaseException:
                judge.given_up()
                raise
            judge.loaded(link.ready)
            note_use(path)
            model = self._model_of(link, name_or_path, path, settings.chat_template)
        # Judging comes before starting a worker, and only then.
        request_events.tell_loaded(
            model,
            time.perf_counter() - began,
            was_running=judge.num_judged == num_judged,
        )
        return model

    @contextmanager
    def _link_for(
        self, path: Path, backend: str, requested: LoadSettings, *, force: bool, named: bool
    ) -> Iterator[WorkerLink]:
        """Give the one link for a file and settings, and give it up if no model came of it.

        Several threads may be loading over it: the last of them does that. One that stops waiting
        must not take away what another one gets.
        """
        key = (file_identity(path, backend, requested.other_files), requested)
        judge = Judge(path, backend, requested, force=force, mmproj_may_miss=not named)
        with self._lock:
            link = self._links.get(key)
            if link is None or link.closed:
                link = self._links[key] = WorkerLink(
                    os.fspath(path), backend, requested, judge, keep_alive_s=self._keep_alive_s
                )
            elif force:
                link.prepare = judge
            self._loads[link] += 1
        try:
            yield link
        finally:
            with self._lock:
                self._loads[link] -= 1
                unwanted = False
                if not self._loads[link]:
                    del self._loads[link]
                    unwanted = all(kept is not link for kept, _ in self._models)
                if unwanted and self._links.get(key) is link:
                    del self._links[key]
            if unwanted:
                link.close()

    def _model_of(
        self,
        link: WorkerLink,
        name_or_path: str | os.PathLike[str],
        path: Path,
        chat_template: str | None,
    ) -> Model:
        with self._lock:
            known = self._models.get((link, chat_template))
        if known is not None:
            return known
        name = DEMO_NAME if self._is_demo(path) else _name_of(name_or_path, path)
        model = Model(link, name=name, path=path, on_unload=self._unload_link)
        if chat_template is not None:
            model.use_chat_template(chat_template)  # before anybody else can get it
        with self._lock:
            if link.closed:
                raise ModelUnloadedError("The model was unloaded while it was being loaded.")
            # Another thread may have been quicker.
            return self._models.setdefault((link, chat_template), model)

    def _unload_link(self, link: WorkerLink) -> bool:
        with self._lock:
            self._links = {key: other for key, other in self._links.items() if other is not link}
            self._models = {key: model for key, model in self._models.items() if key[0] is not link}
        return link.close()

    def _backend_for(self, path: Path, backend: str | None) -> str:
        if backend is not None:
            if backend not in demo_mode.BACKENDS:
                raise InvalidValueError(
                    f"backend is {backend!r}; it can be {' or '.join(demo_mode.BACKENDS)}.",
                    value=backend,
                )
            return backend
        chosen = demo_mode.chosen_backend()
        if chosen == "scripted" and not self._is_demo(path):
            raise MissingDependencyError(
                f"{path.name} cannot be loaded in demo mode. {demo_reason()}",
                install=demo_mode.install_line(),
            )
        return chosen

    def _is_demo(self, path: Path) -> bool:
        try:
            return self.library.resolve(DEMO_NAME) == path
        except ModelFileError:
            return False


def _name_of(name_or_path: str | os.PathLike[str], path: Path) -> str:
    """Return what to call a model: the name it was asked for by, or its file's."""
    text = os.fspath(name_or_path)
    is_path = isinstance(name_or_path, os.PathLike) or os.sep in text or text.endswith(".gguf")
    return printable(path.stem) if is_path else text


def _new_locks_in_child() -> None:
    """In a forked child: whichever thread held a lock in the parent is not here to release it."""
    global _default_lock  # noqa: PLW0603 - one for the process
    _default_lock = threading.Lock()
    for manager in list(ModelManager._all):  # noqa: SLF001 - this module's own class
        manager._lock = threading.Lock()  # noqa: SLF001
        manager._loads.clear()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks_in_child)

_default: ModelManager | None = None
_default_lock = threading.Lock()


def default_manager() -> ModelManager:
    """Return the manager that `gguf_widgets.load` and the widgets share in this process."""
    global _default  # noqa: PLW0603 - one for the process, made when it is first needed
    with _default_lock:
        if _default is None:
            _default = ModelManager()
        return _default


def load(
    name_or_path: str | os.PathLike[str] = DEMO_NAME,
    *,
    on_progress: Progress | None = None,
    force: bool = False,
    backend: str | None = None,
    **load_settings: Any,
) -> Model:
    """Load a model with this process's default manager; see `ModelManager.load`.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> model = gw.load("demo", n_ctx=2048)  # doctest: +SKIP
    """
    return default_manager().load(
        name_or_path, on_progress=on_progress, force=force, backend=backend, **load_settings
    )
