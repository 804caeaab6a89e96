"""The work of a measurement, in a thread of its own: models one after another, each test in turn.

Promises: a model that fails to load, and a test that cannot be, are noted and the others go on; the
memory of one model is given back before the next is loaded; each row is kept in the store as soon
as it is whole, and what had been measured of a test when it was stopped is a row as well; a store
that cannot be written costs nothing but the keeping, and that is said. Leaves to others: one
repetition (`measure`), what is shown (`result`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from gguf_widgets.core.bench.compare import change_of
from gguf_widgets.core.bench.kept import KeptRows
from gguf_widgets.core.bench.machine import Watch, busy_now, this_engine, this_machine
from gguf_widgets.core.bench.measure import Repetitions, Sample, StoppedError
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.bench.progress import Estimate
from gguf_widgets.core.bench.row import SETTINGS, BenchFailure, BenchModel, BenchRow
from gguf_widgets.core.errors import (
    ContextOverflowError,
    GgufWidgetsError,
    LoadCancelledError,
    StoreError,
    WorkerDiedError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.state_identity import ModelFiles
from gguf_widgets.core.store.store import Store

__all__ = ["BenchWork", "Listener", "Wanted"]

# Notes about what a model would write say nothing about its speed.
_OF_ANSWERS: Final = ("The model was trained with up to", "chat template", "Demo mode.")
_MOST_DEATHS: Final = 2
_ROUND: Final = 256  # llama.cpp computes attention over whole blocks of cells


class Wanted(NamedTuple):
    """One model to measure: a loaded one, or what is loaded for it, and how.

    `variant` are those of the settings by which it is told from others of the same model.
    """

    model: Model | str | Path
    settings: Mapping[str, Any]
    variant: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What to call the model before it is loaded."""
        if isinstance(self.model, Model):
            return plain_text(self.model.name)
        return plain_text(self.model if isinstance(self.model, str) else self.model.name)

    @property
    def told(self) -> str:
        """The variant in words; "" if there is none."""
        return ", ".join(f"{name}={value}" for name, value in self.variant.items())

    @property
    def label(self) -> str:
        """The name, and the variant if there is one."""
        return f"{self.name} ({self.told})" if self.variant else self.name


class Listener(NamedTuple):
    """Who is told what happens, in the thread of the work."""

    row: Callable[[BenchRow], None]
    failure: Callable[[BenchFailure, GgufWidgetsError], None]
    note: Callable[[str], None]
    at: Callable[[str, str, str], None]  # model, test, phase


class BenchWork:
    """Measures.

    Parameters
    ----------
    bench_id : str
    wanted : sequence of Wanted
    tests : sequence of BenchTest
    repetitions : int
    warmup : bool
    delay_s : float
        A pause before each test.
    store : Store or None
        None keeps nothing.
    force : bool
        Load also what seems to have no room in memory.
    listener : Listener
    stop : threading.Event
    """

    def __init__(
        self,
        bench_id: str,
        wanted: Sequence[Wanted],
        tests: Sequence[BenchTest],
        *,
        repetitions: int,
        warmup: bool,
        delay_s: float,
        store: Store | None,
        force: bool,
        listener: Listener,
        stop: threading.Event,
    ) -> None:
        self._bench_id = bench_id
        self._wanted, self._tests = wanted, tests
        self._repetitions, self._warmup, self._delay_s = repetitions, warmup, delay_s
        self._kept = KeptRows(store) if store is not None else None
        self._force = force
        self._tell, self._stop = listener, stop
        self._keep_failed = False
        planned = [(number, test) for number in range(len(wanted)) for test in tests]
        self.estimate = Estimate(planned, repetitions, warmup=warmup)

    @property
    def num_tests(self) -> int:
        """How many there are, of all models."""
        return len(self._wanted) * len(self._tests)

    def run(self) -> None:
        """Measure all of it, or until it is stopped."""
        # A manager of its own: what the notebook has loaded stays as it is.
        with ModelManager(keep_alive=0) as manager:
            self._look_around(manager)
            for number, wanted in enumerate(self._wanted):
                if self._stop.is_set():
                    return
                self._measure_model(manager, number, wanted)
                self.estimate.done(number)

    def _look_around(self, manager: ModelManager) -> None:
        self._tell.at("", "", "looking whether the machine is quiet")
        for number, wanted in enumerate(self._wanted):
            try:
                if isinstance(wanted.model, Model):
                    size = wanted.model.info.size_bytes
                else:
                    size = manager.library.resolve(wanted.model).stat().st_size
                self.estimate.size(number, size)
            except (GgufWidgetsError, OSError):
                continue  # it is told when its turn comes
        busy = busy_now()
        if busy.is_busy:
            self._tell.note(busy.words())

    # -- one model --------------------------------------------------------------------------------

    def _measure_model(self, manager: ModelManager, number: int, wanted: Wanted) -> None:
        label = wanted.label
        self._tell.at(label, "", "loading")
        began = time.monotonic()
        try:
            model = self._load(manager, wanted)
        except LoadCancelledError as error:
            if not self._stop.is_set():
                self._fail(label, "", error)
            return
        except GgufWidgetsError as error:
            self._fail(label, "", error)
            return
        self.estimate.loaded(time.monotonic() - began)
        try:
            facts = self._facts(model, wanted.told)
            self._say_of(model, label)
            self._measure_tests(model, facts, number)
        except GgufWidgetsError as error:
            self._fail(label, "", error)
        finally:
            if not isinstance(wanted.model, Model):
                model.unload()

    def _measure_tests(self, model: Model, facts: BenchModel, number: int) -> None:
        num_deaths = 0
        for test in self._tests:
            if self._stop.is_set():
                return
            try:
                self._measure_test(model, facts, number, test)
            except WorkerDiedError as error:
                self._fail(facts.label, test.name, error)
                num_deaths += 1
                if num_deaths == _MOST_DEATHS:
                    raise
                model.ensure_running()  # the others may go well: a smaller size, say
            self.estimate.done(number, test)

    def _load(self, manager: ModelManager, wanted: Wanted) -> Model:
        if isinstance(wanted.model, Model):
            wanted.model.ensure_running()
            return wanted.model

        def on_progress(fraction: float, phrase: str) -> bool:
            self._tell.at(wanted.label, "", f"{phrase} ({fraction:.0%})" if fraction else phrase)
            return not self._stop.is_set()

        settings = {"mmproj": "", **wanted.settings}
        n_seq = max(test.n_seq for test in self._tests)
        settings.setdefault("n_seq_max", n_seq)
        own_cells = settings.get("kv_unified") is False
        needed = max(test.num_cells if own_cells else test.num_shared_cells for test in self._tests)
        settings.setdefault("n_ctx", max(512, -(-needed // _ROUND) * _ROUND))
        return manager.load(wanted.model, on_progress=on_progress, force=self._force, **settings)

    def _facts(self, model: Model, variant: str) -> BenchModel:
        info, settings = model.info, model.settings
        try:
            digest = ModelFiles(info.path, info.backend).digest()
        except GgufWidgetsError:
            digest = f"{model.name}, {info.size_bytes} bytes"  # it has changed since it was loaded
        return BenchModel(
            name=plain_text(model.name),
            digest=digest,
            architecture=info.architecture,
            quantization=info.quantization,
            size_bytes=info.size_bytes,
            num_parameters=info.num_parameters,
            backend=info.backend,
            settings={name: getattr(settings, name) for name in SETTINGS},
            lora=len(settings.lora),
            variant=variant,
        )

    def _say_of(self, model: Model, label: str) -> None:
        if model.info.backend == "scripted":
            self._tell.note(
                f"{label}: this is the demo mode, which runs no model: these figures say nothing "
                "about speed and are not kept."
            )
        for note in model.load_notes:
            if not any(part in note for part in _OF_ANSWERS):
                self._tell.note(f"{label}: {note}")
        others = model.stats().num_clients - 1
        if others > 0:
            who = "another program uses" if others == 1 else f"{others} other programs use"
            self._tell.note(
                f"{label}: {who} this loaded model, too. What it is asked meanwhile slows the "
                "measurement down, and has to wait for it."
            )

    # -- one test ---------------------------------------------------------------------------------

    def _measure_test(self, model: Model, facts: BenchModel, number: int, test: BenchTest) -> None:
        """Measure a test; only the death of the worker is raised."""
        samples: list[Sample] = []
        repetitions = Repetitions(model, test, self._stop)
        watch: Watch | None = None
        try:
            self._check_room(model, test)
            if self._delay_s and self._stop.wait(self._delay_s):
                return
            if self._warmup:
                self._tell.at(facts.label, test.name, "warming up")
                self._timed(number, test, repetitions.warm_up, warm=True)
            watch = Watch([model.pid] if model.pid is not None else [])
            for index in range(self._repetitions):
                if self._stop.is_set():
                    break
                self._tell.at(facts.label, test.name, f"{index + 1} of {self._repetitions}")
                samples.append(self._timed(number, test, repetitions.once, warm=False))
        except StoppedError:
            pass
        except WorkerDiedError:
            self._add(facts, test, samples, watch)
            raise
        except GgufWidgetsError as error:
            self._fail(facts.label, test.name, error)
        self._add(facts, test, samples, watch)

    def _timed(self, number: int, test: BenchTest, do: Callable[[], Any], *, warm: bool) -> Any:
        self.estimate.begin(number, test, warm=warm)
        clean = False
        try:
            result = do()
            clean = True
            return result
        finally:
            self.estimate.end(clean=clean)

    def _check_room(self, model: Model, test: BenchTest) -> None:
        settings = model.settings
        n_ctx, n_seq_max = settings.n_ctx or 0, settings.n_seq_max or 1
        shared = settings.kv_unified is not False
        needed = test.num_shared_cells if shared else test.num_cells
        if test.n_seq > n_seq_max:
            raise ContextOverflowError(
                f"{test.name} needs {test.n_seq} sequences at once, and the model is loaded for "
                f"{n_seq_max} (n_seq_max). Load it with n_seq_max={test.n_seq}, or measure fewer.",
                test=test.name,
                n_seq=test.n_seq,
                n_seq_max=n_seq_max,
            )
        if needed > n_ctx:
            raise ContextOverflowError(
                f"{test.name} needs {needed:,} tokens of context, and the model is loaded with "
                f"{n_ctx:,} (n_ctx). Load it with a larger n_ctx, or measure a smaller size.",
                test=test.name,
                needed=needed,
                n_ctx=n_ctx,
            )

    def _add(
        self, facts: BenchModel, test: BenchTest, samples: Sequence[Sample], watch: Watch | None
    ) -> None:
        if not samples:
            return
        machine = this_machine()
        row = BenchRow(
            bench_id=self._bench_id,
            at=time.time(),
            machine=machine,
            engine=this_engine(),
            model=facts,
            test=test,
            samples=[sample.tok_per_s for sample in samples],
            each_samples=[sample.each_tok_per_s for sample in samples],
            seconds=[sample.seconds for sample in samples],
            repetitions=self._repetitions,
            warmup=self._warmup,
            num_processors=os.cpu_count() or 1,
            other_cores=None if watch is None else watch.cores_of_others(),
        )
        self._tell.row(self._kept_and_compared(row))

    def _kept_and_compared(self, row: BenchRow) -> BenchRow:
        if self._kept is None or self._keep_failed or row.model.backend == "scripted":
            return row
        try:
            row = _with_change(row, self._kept)
            self._kept.add(row)
        except StoreError as error:
            self._keep_failed = True
            self._tell.note(
                f"The speeds could not be kept, or not be compared with earlier ones: "
                f"{error.message} They are in this result all the same."
            )
        return row

    def _fail(self, model: str, test: str, error: GgufWidgetsError) -> None:
        failure = BenchFailure(
            model=model, test=test, kind=type(error).__name__, message=error.message
        )
        self._tell.failure(failure, error)


def _with_change(row: BenchRow, kept: KeptRows) -> BenchRow:
    return msgspec.structs.replace(row, change=change_of(row, kept.earlier(row)))
