"""What a runner needs of a run: its models, loaded when they are needed, and its questions.

Promises: a model is the very file that the run began with, or the run does not go on. What was
loaded for it here stays loaded, for whoever asks next; with a cluster nothing is loaded here.
Leaves to others: asking (`runner`), unloading (the manager), the cluster's machines (`cluster`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_widgets.batch.places import LocalPlaces, Places
from gguf_widgets.batch.question import Known, Question
from gguf_widgets.batch.questions import questions
from gguf_widgets.batch.spec import ModelRef, Spec, identity_of
from gguf_widgets.core.demo_mode import chosen_backend
from gguf_widgets.core.errors import BatchError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.store import Store

if TYPE_CHECKING:
    from gguf_widgets.batch.cluster import Cluster

__all__ = ["Only", "Work"]


class Work:
    """The models and questions of one run; a `runner.Plan`.

    Parameters
    ----------
    run_id : str
    store : Store
    spec : Spec
    names : list of str
        The table's columns, as templates know them.
    manager : ModelManager
        Who loads what is not given.
    models : sequence of Model
        Those that are loaded already, in the order of the spec; may be shorter.
    cluster : Cluster, optional
        Whose machines are asked; default: the model is asked here.
    """

    def __init__(
        self,
        run_id: str,
        store: Store,
        spec: Spec,
        names: list[str],
        manager: ModelManager,
        models: Sequence[Model] = (),
        cluster: Cluster | None = None,
    ) -> None:
        self._run_id, self._spec, self._names = run_id, spec, names
        self._runs, self._tasks = BatchRuns(store), RunTasks(store, run_id)
        self._manager = manager
        self._given = list(models)
        self._cluster = cluster

    def num_models(self) -> int:
        """Return how many models there are."""
        return len(self._spec.models)

    def is_done(self, number: int) -> bool:
        """Say whether all tasks of a model have ended."""
        shape = self._runs.get(self._run_id).shape
        ended = sum(shape.place(task)[2] == number for task in self._tasks.ended())
        return ended == shape.num_tasks // max(1, shape.num_models)

    def model(self, number: int) -> Model:
        """Return a model, loaded.

        Raises
        ------
        BatchError
            The file is another one than when the run began.
        GgufWidgetsError
            It cannot be loaded.
        """
        if number < len(self._given):
            return self._given[number]
        return self._loaded(self._spec.models[number], {})

    def model_with(self, settings: Mapping[str, Any]) -> Model:
        """Return the first model, loaded with some settings other than the run's.

        Raises
        ------
        BatchError
            The run is carried out on a cluster; its answers would be another model's; or as
            `model`.
        GgufWidgetsError
            It cannot be loaded like this.
        """
        if self._cluster is not None:
            raise BatchError(
                "The settings of a model on a cluster cannot be changed on the way. Stop the run, "
                "and resume it with executor=Cluster(client, settings={...}).",
                id=self._run_id,
            )
        own = self._spec.models[0]
        template = settings.get("chat_template", own.chat_template)
        changed = {**own.settings, **settings}
        other = dataclasses.replace(own, settings=changed, chat_template=template)
        if not self._spec.may_ask(other):
            raise BatchError(
                "A run's chat template, adapters (lora) and projector (mmproj) stay as they are: "
                "rows of two models must not be mixed. Make a new run for the others.",
                id=self._run_id,
                problem="other_model",
            )
        return self._loaded(own, settings)

    def _loaded(self, reference: ModelRef, other: Mapping[str, Any]) -> Model:
        check_same(reference)
        settings = {**reference.settings, **other}
        if reference.chat_template is not None:
            settings.setdefault("chat_template", reference.chat_template)
        backend = reference.backend or None
        return self._manager.load(Path(reference.path), backend=backend, **settings)

    def places(
        self, number: int, on_change: Callable[[], object], is_stopped: Callable[[], bool]
    ) -> Places:
        """Return where a model is asked: here, loaded, or on the cluster's machines.

        Raises
        ------
        GgufWidgetsError
            As `model`; or the cluster cannot be asked.
        """
        if self._cluster is None:
            return LocalPlaces(self.model(number))
        from gguf_widgets.batch.cluster.machines import Machines  # most runs need none

        reference = self._spec.models[number]
        check_same(reference)
        given = self._given[number : number + 1]
        return Machines(
            self._cluster,
            self._run_id,
            reference,
            backend=reference.backend or (given[0].info.backend if given else chosen_backend()),
            on_change=on_change,
            is_stopped=is_stopped,
        )

    def questions(self, number: int) -> Iterable[Question | Known]:
        """Return what has not ended of a model's tasks."""
        shape = self._runs.get(self._run_id).shape
        return questions(self._spec, self._tasks, shape, self._names, number)


class Only:
    """Some questions of a run and no others; a `runner.Plan`.

    Parameters
    ----------
    work : Work
    model : Model
        The run's first, loaded.
    some : sequence of Question
    """

    def __init__(self, work: Work, model: Model, some: Sequence[Question]) -> None:
        self._work, self._model, self._some = work, model, list(some)

    def num_models(self) -> int:
        """Return how many models there are."""
        return 1

    def is_done(self, number: int) -> bool:
        """Say whether all tasks of a model have ended."""
        return self._work.is_done(number)

    def places(
        self,
        number: int,  # noqa: ARG002
        on_change: Callable[[], object],  # noqa: ARG002
        is_stopped: Callable[[], bool],  # noqa: ARG002
    ) -> Places:
        """Return the place of the model."""
        return LocalPlaces(self._model)

    def questions(self, number: int) -> Iterable[Question | Known]:  # noqa: ARG002
        """Return the questions."""
        return self._some


def check_same(reference: ModelRef) -> None:
    """Raise `BatchError` if a run's model is not there, or is another file by now."""
    path = Path(reference.path)
    if not path.is_file():
        raise BatchError(
            f'The model of this run, "{reference.name}", is not at {path} any more. Put it back '
            "there, or start a new run with another model.",
            path=str(path),
            problem="model_gone",
        )
    if identity_of(path) != reference.identity:
        raise BatchError(
            f"The file of this run's model, {path}, is another one than when the run began. Rows "
            "of two models must not be mixed: start a new run, or put the former file back.",
            path=str(path),
            problem="model_changed",
        )
