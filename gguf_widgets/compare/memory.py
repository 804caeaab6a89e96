"""The sides' models in memory: as many at a time as there is room for.

Promises: a model that somebody gave loaded is used as it is and left as it is; what was loaded here
is unloaded here; where memory does not hold all, those that it holds come first and the others
after they have gone, and nobody's context is made smaller because another side's model lies beside
it. Leaves to others: whether a model fits (`core.manager`), asking (`carrying`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gguf_widgets.batch.spec import ModelRef
from gguf_widgets.batch.work import check_same
from gguf_widgets.compare.sides import SideRecord
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    LoadCancelledError,
    NotEnoughMemoryError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model

__all__ = ["Loaded", "Memory"]


class Loaded(NamedTuple):
    """What came of loading some sides."""

    models: dict[int, Model]  # by the side's number
    failed: dict[int, GgufWidgetsError]
    later: list[int]  # there is no room for these beside the others


class Memory:
    """Loads models for a comparison and gives them back.

    Parameters
    ----------
    manager : ModelManager
        Whose library finds names; what is loaded here has connections of its own, so that
        unloading it takes nothing from anybody who uses the same model in this process.
    given : mapping of int to Model
        The sides whose models somebody holds.
    is_stopped : callable
        Whether nobody waits any more.
    on_progress : callable, optional
        Told how far a model is (0 to 1) and what is done with it, while it is loaded.
    """

    def __init__(
        self,
        manager: ModelManager,
        given: Mapping[int, Model],
        is_stopped: Callable[[], bool],
        on_progress: Callable[[float, str], object] = lambda _fraction, _phrase: None,
    ) -> None:
        self._manager = ModelManager(manager.library)
        self._given = dict(given)
        self._is_stopped, self._on_progress = is_stopped, on_progress
        self._own: list[Model] = []

    def load(
        self, sides: Sequence[tuple[int, SideRecord]], on_load: Callable[[int], None]
    ) -> Loaded:
        """Load as many of these sides as there is room for, in their order.

        Parameters
        ----------
        sides : sequence of (int, SideRecord)
        on_load : callable
            Called with the number of the side whose model is about to be loaded.

        Raises
        ------
        LoadCancelledError
            It was stopped on the way.
        """
        models: dict[int, Model] = {}
        failed: dict[int, GgufWidgetsError] = {}
        later: list[int] = []
        for number, side in sides:
            if self._is_stopped():
                raise LoadCancelledError("The comparison was stopped.")
            on_load(number)
            try:
                model = self.model(number, side)
            except LoadCancelledError:
                raise
            except NotEnoughMemoryError as error:
                if self._own:
                    later.append(number)
                else:
                    failed[number] = error
                continue
            except GgufWidgetsError as error:
                failed[number] = error
                continue
            if models and self._is_squeezed(model, models):
                self._unload(model)
                later.append(number)
                continue
            models[number] = model
        return Loaded(models, failed, later)

    def model(self, number: int, side: SideRecord) -> Model:
        """Return one side's model, loaded.

        Raises
        ------
        BatchError
            The file is another one than when the comparison began.
        GgufWidgetsError
            It cannot be loaded.
        """
        given = self._given.get(number)
        if given is not None and given.loaded:
            return given
        if side.path is not None and side.identity is not None:
            check_same(ModelRef(side.name, side.path, side.identity))
        settings = dict(side.load)
        if side.chat_template is not None:
            settings["chat_template"] = side.chat_template
        return self.named(
            Path(side.path) if side.path is not None else side.name,
            backend=side.backend or None,
            **settings,
        )

    def named(self, name: str | Path | Model, *, backend: str | None = None, **load: Any) -> Model:
        """Return the model of a name or file, loaded; one that is loaded already as it is."""
        if isinstance(name, Model):
            if name.loaded:
                return name
            name = name.path

        def report(fraction: float, phrase: str) -> bool:
            self._on_progress(fraction, phrase)
            return not self._is_stopped()

        model = self._manager.load(name, backend=backend, on_progress=report, **load)
        if model not in self._own:
            self._own.append(model)
        return model

    def unload(self) -> None:
        """Give back all that was loaded here."""
        while self._own:
            self._own.pop().unload()

    def _unload(self, model: Model) -> None:
        if model in self._own:
            self._own.remove(model)
            model.unload()

    def _is_squeezed(self, model: Model, others: Mapping[int, Model]) -> bool:
        """Say whether a model got less context because another one lies beside it."""
        if model not in self._own or model in others.values():
            return False
        own, wanted = model.settings.n_ctx or 0, model.info.n_ctx_train
        room = max(other.settings.n_ctx or 0 for other in others.values())
        return own < min(wanted, room)
