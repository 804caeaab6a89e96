"""Loads the models of a record again, one after another.

Promises: a model is loaded with the settings that were in effect then, but for those that a person
asks to change and the threads that this machine has not; a manager of its own is used, so that
nobody's loaded model is unloaded; what was loaded here is given up at the end. Leaves to others:
where a model is (`finding`), what differs (`changes`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gguf_widgets.batch.spec import ModelRef
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.fit_machine import usable_cores
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.record.model_file import NUMBERS
from gguf_widgets.experiments.finding import find, local_file
from gguf_widgets.experiments.model_record import model_record
from gguf_widgets.experiments.values import ModelRecord

__all__ = ["Loaded", "ReplayModels"]

_KEEP_ALIVE_S: Final = 60.0

Chosen = Model | str | os.PathLike[str]


class Loaded(NamedTuple):
    """A model of the record as it is loaded now."""

    model: Model
    record: ModelRecord
    note: str


class ReplayModels:
    """The models of a replay.

    Parameters
    ----------
    records : sequence of ModelRecord
    manager : ModelManager
        Whose library is looked through.
    model : Model, str, path or dict of these by the recorded name, optional
        What to use in place of the recorded one.
    load : dict, optional
        Settings of loading to change.
    """

    def __init__(
        self,
        records: Sequence[ModelRecord],
        manager: ModelManager,
        model: Chosen | Mapping[str, Chosen] | None = None,
        load: Mapping[str, Any] | None = None,
    ) -> None:
        self._records = list(records)
        self._library = manager.library
        self._given = _by_number(self._records, model)
        self._load = dict(load or {})
        self._manager: ModelManager | None = None
        self._loaded: dict[int, Loaded] = {}

    def load(self, number: int) -> Loaded:
        """Return a model, loaded; others that were loaded here are given up before.

        Raises
        ------
        GgufWidgetsError
            It is not here, or cannot be loaded.
        """
        known = self._loaded.get(number)
        if known is not None and known.model.loaded:
            return known
        self.release()
        given, note = self._given.get(number), ""
        if isinstance(given, Model):
            model = given
        else:
            record, path = self._records[number], given
            if path is None:
                path, _, note = find(record, self._library)
            settings = {**_settings_of(record, is_own=given is None), **self._load}
            backend = record.backend if given is None else None
            model = self._own_manager().load(path, backend=backend, **settings)
        self._loaded[number] = Loaded(model, model_record(model), note)
        return self._loaded[number]

    def reference(self, number: int, ref: ModelRef) -> tuple[ModelRef, Loaded]:
        """Return a run's model as it is here, for a run that loads it by itself."""
        loaded = self.load(number)
        now = ModelRef.of(loaded.model)
        template = ref.chat_template
        return (
            ModelRef(now.name, now.path, now.identity, now.settings, template, now.backend),
            loaded,
        )

    @property
    def manager(self) -> ModelManager:
        """Who loads them."""
        return self._own_manager()

    def release(self) -> None:
        """Give up what was loaded here."""
        self._loaded.clear()
        if self._manager is not None:
            for model in list(self._manager.loaded()):
                model.unload()

    def close(self) -> None:
        """Give everything up."""
        self.release()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _own_manager(self) -> ModelManager:
        if self._manager is None:
            self._manager = ModelManager(self._library, keep_alive=_KEEP_ALIVE_S)
        return self._manager


def _settings_of(record: ModelRecord, *, is_own: bool) -> dict[str, Any]:
    """Return what to load a model with; another model takes the numbers alone."""
    settings = {
        name: value for name, value in record.load.items() if name in NUMBERS and value is not None
    }
    threads = settings.get("n_threads")
    if isinstance(threads, int):
        settings["n_threads"] = max(1, min(threads, usable_cores()))
    if is_own:
        scales = [one.get("scale", 1.0) for one in record.lora or []]
        paths = [local_file(path, "adapter (LoRA)") for path in record.lora_paths]
        if paths:
            settings["lora"] = list(zip(paths, scales, strict=True))
        companion = record.mmproj_path
        settings["mmproj"] = local_file(companion, "image companion") if companion else False
    return settings


def _by_number(
    records: Sequence[ModelRecord], given: Chosen | Mapping[str, Chosen] | None
) -> dict[int, Any]:
    """Return what is to be used in place of which model."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        paths = {record.path for record in records}
        if len(paths) > 1:
            told = ", ".join(sorted({record.name for record in records})[:5])
            raise InvalidValueError(
                f"This experiment has several models ({told}). Say which one is to be replaced: "
                "model={recorded name: other model}."
            )
        return {number: _chosen(given) for number in range(len(records))}
    names = {record.name for record in records}
    for name in given:
        if name not in names:
            raise InvalidValueError(
                f"This experiment has no model {name!r:.60}; its models are "
                f"{', '.join(sorted(names)[:10])}."
            )
    return {
        number: _chosen(given[record.name])
        for number, record in enumerate(records)
        if record.name in given
    }


def _chosen(given: Any) -> Any:
    if isinstance(given, Model | str | Path | os.PathLike):
        return given
    raise InvalidValueError(
        f"A model to replay with is a loaded model, a name or a path; this is a "
        f"{type(given).__name__}."
    )
