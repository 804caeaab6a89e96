"""How fast a model is on this machine, in llama-bench's terms.

Promises: `bench` measures through the worker and the engine that everybody else's requests go
through, says what disturbs the figures, and keeps them with the machine, so that later ones can be
compared. Leaves to others: planning (`plan`), one repetition and its formulas (`measure`), the
order of things (`work`), averages and comparisons (`statistics`, `compare`), tables (`table`).

Beside llama-bench
------------------
The same: ``pp512`` computes a prompt of 512 random tokens, ``tg128`` writes 128 tokens one after
another, ``pp512+tg128`` does both; ``@ d4096`` does it with 4,096 tokens in the context already,
which are not timed; each is repeated 5 times after a warm-up, and the result is the mean and the
standard deviation (n - 1) of tokens per second over the repetitions.

Otherwise, and why:

- **What is timed.** llama-bench times `llama_decode` by itself. Here a step is one of the engine's:
  scheduling, `llama_decode`, taking the likeliest token, turning it into text; a prompt's time ends
  with its first token. It is what a reply costs. Not in it: the socket, waiting in the queue, the
  chat template and splitting text into tokens (all of that is before the worker's clock begins),
  and the messages of a stream (what is written comes in one piece).
- **What is written.** llama-bench feeds random tokens. Here each token is the likeliest one, as in
  a reply at temperature 0. With a mixture of experts, the text decides which are read.
- **Sequences at once.** llama-bench has one; `n_seq` runs as many as are asked for, as
  llama-batched-bench does. The figure is of all together. Prompts of several sequences are computed
  in common batches, and in ``pp+tg`` one may write while another's prompt is still computed, as it
  is with real requests.
- **Writing begins after one token** (or after the depth), because a request has a prompt.
- **A depth** is computed before each repetition. llama-bench puts the state away and restores it.
- **The context** is one for all tests of a model, large enough for the largest; llama-bench makes a
  new one for each. An empty cache costs nothing: llama.cpp looks at what is in use.
- **Warm-up**: the prompt in full, and 16 tokens of writing (llama-bench: 1).
- **Threads, batch sizes and the rest** are what this program chooses for a model where nothing is
  said, so that it is measured as it runs. ``n_threads=...``, ``n_batch=...`` change it; llama-bench
  has ``n_batch=2048, n_ubatch=512``.
- **Disturbance**: what other programs use of the processors is looked at before and during each
  test, and said if it is more than a tenth of them; so is a spread above 5%.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.bench.history import BenchHistory
from gguf_widgets.core.bench.kept import MOST, KeptRows
from gguf_widgets.core.bench.machine import this_machine
from gguf_widgets.core.bench.plan import MAX_REPETITIONS, Numbers, checked_number, plan_tests
from gguf_widgets.core.bench.result import BenchResult
from gguf_widgets.core.bench.work import BenchWork, Listener, Wanted
from gguf_widgets.core.errors import InvalidValueError, ModelFileError, StoreError
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.core.types import LoadSettings

__all__ = ["BenchHistory", "BenchResult", "bench", "bench_history"]

_MAX_MODELS: Final = 100
_MAX_DELAY_S: Final = 3600.0

OneModel = str | os.PathLike[str] | Model


def bench(
    models: OneModel | Iterable[OneModel] = "demo",
    *,
    n_prompt: Numbers = (512,),
    n_gen: Numbers = (128,),
    pg: Iterable[Sequence[int]] | Sequence[int] = (),
    depths: Numbers = (0,),
    n_seq: Numbers = (1,),
    repetitions: int = 5,
    warmup: bool = True,
    delay_s: float = 0.0,
    variants: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (),
    keep: bool = True,
    store: Store | None = None,
    force: bool = False,
    progress: bool | None = None,
    wait: bool = True,
    **load_settings: Any,
) -> BenchResult:
    """Measure how fast models are on this machine, one after another.

    See the module for what exactly is measured, and how that differs from llama-bench.

    Parameters
    ----------
    models : str, path, Model, or several of these, default "demo"
        Names from `gguf_widgets.models()`, files, ``hf:owner/repo:Q4_K_M``, or loaded models. What
        is not loaded is loaded for this, with a context as large as the tests need, and unloaded
        again. A loaded model is measured as it is.
    n_prompt : int or several, default 512
        Tests that compute a prompt of so many tokens (pp512); 0 is none.
    n_gen : int or several, default 128
        Tests that write so many tokens (tg128); 0 is none.
    pg : pair or several pairs, default none
        Tests that do both: ``(512, 128)`` is pp512+tg128.
    depths : int or several, default 0
        Tokens in the context before each test begins.
    n_seq : int or several, default 1
        Sequences at once; 1 to 256.
    repetitions : int, default 5
    warmup : bool, default True
        Do each test once before, without looking.
    delay_s : float, default 0
        Seconds to pause before each test, for processors that get too hot.
    variants : dict or several, default none
        Each model is measured with each of these besides: ``[{"n_threads": 2}, {"n_threads": 4}]``.
    keep : bool, default True
        Keep the figures in the store, and compare them with earlier ones of this machine.
    store : Store, optional
        Default: this user's.
    force : bool, default False
        Load a model even if the memory does not seem to suffice.
    progress : bool, optional
        Show how far it is. Default: where somebody can see it.
    wait : bool, default True
        Return when it has ended. False returns at once: `BenchResult.progress`, `.stop`, `.wait`.
    **load_settings
        Fields of `LoadSettings` for all: ``n_threads``, ``n_batch``, ``n_gpu_layers``, ...

    Returns
    -------
    BenchResult
        Also after Ctrl+C, or Stop in a notebook: with what was measured until then, and the status
        "stopped".

    Raises
    ------
    InvalidValueError
        Something of this cannot be; nothing was measured.
    GgufWidgetsError
        There is one model only, and nothing could be measured with it: its error. With several,
        those that fail are in `BenchResult.failures` and the others go on.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.bench(["demo", "qwen3-4b"], depths=[0, 4096], n_seq=[1, 4])  # doctest: +SKIP
    >>> gw.bench("demo", variants=[{"n_threads": 1}, {"n_threads": 2}]).figure()  # doctest: +SKIP
    """
    tests, notes = plan_tests(n_prompt=n_prompt, n_gen=n_gen, pg=pg, depths=depths, n_seq=n_seq)
    number = checked_number("repetitions", repetitions, 1, MAX_REPETITIONS)
    if isinstance(delay_s, bool) or not 0 <= delay_s <= _MAX_DELAY_S:
        raise InvalidValueError(
            f"delay_s is {delay_s!r:.40}; it must be from 0 to {_MAX_DELAY_S:.0f} seconds.",
            value=delay_s,
        )
    wanted = _wanted(models, load_settings, variants, notes)
    result = BenchResult(uuid.uuid4().hex)
    kept = None
    if keep:
        try:
            kept = store if store is not None else default_store()
        except StoreError as error:
            notes.append(f"The speeds cannot be kept: {error.message}")

    def make(listener: Listener, stop: threading.Event) -> BenchWork:
        for note in notes:
            listener.note(note)
        return BenchWork(
            result.id,
            wanted,
            tests,
            repetitions=number,
            warmup=bool(warmup),
            delay_s=float(delay_s),
            store=kept,
            force=force,
            listener=listener,
            stop=stop,
        )

    result.start(make)
    if not wait:
        return result
    result.watch(progress)
    if len(wanted) == 1:
        result.raise_failure()
    return result


def bench_history(
    *,
    model: str | None = None,
    test: str | None = None,
    bench_id: str | None = None,
    since: float | datetime | None = None,
    machine: str | None = "this",
    limit: int = 1000,
    store: Store | None = None,
) -> BenchHistory:
    """Return the speeds that were measured earlier, the newest first.

    Parameters
    ----------
    model : str, optional
        Only those of models with this in their name; capital letters do not matter.
    test : str, optional
        Only this test: ``"tg128 @ d4096"``.
    bench_id : str, optional
        Only those that were measured together: `BenchResult.id`.
    since : datetime or seconds since 1970, optional
    machine : "this", None or a digest, default "this"
        None is all machines whose figures are in this store.
    limit : int, default 1000
        The newest so many.
    store : Store, optional
        Default: this user's.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    moment = since.timestamp() if isinstance(since, datetime) else since
    rows = KeptRows(store if store is not None else default_store())
    found = rows.rows(
        machine=this_machine().digest if machine == "this" else machine,
        test=test,
        bench_id=bench_id,
        since=moment,
        limit=checked_number("limit", limit, 1, MOST),
    )
    if model is not None:
        part = model.casefold()
        found = [row for row in found if part in row.model.name.casefold()]
    return BenchHistory(found, rows)


def _wanted(
    models: OneModel | Iterable[OneModel],
    load_settings: Mapping[str, Any],
    variants: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    notes: list[str],
) -> list[Wanted]:
    """Return each model with each variant of its settings, once."""
    single = isinstance(models, str | os.PathLike | Model)
    listed: list[OneModel] = [models] if single else list(models)  # type: ignore[list-item, arg-type]
    wrong = [one for one in listed if not isinstance(one, str | os.PathLike | Model)]
    if not listed or wrong:
        what = f"{wrong[0]!r:.60} is none" if wrong else "the list is empty"
        raise InvalidValueError(
            f"Models are names, files or loaded models, and {what}. The names are listed by "
            "gguf_widgets.models()."
        )
    many = [dict(variants)] if isinstance(variants, Mapping) else [dict(one) for one in variants]
    wanted: list[Wanted] = []
    seen: set[Any] = set()
    for one in listed:
        for variant in many or [{}]:
            settings = {**load_settings, **variant}
            if isinstance(one, Model):
                if settings:
                    raise InvalidValueError(
                        f"{one.name} is loaded already, so it is measured with the settings that it"
                        f" has; {', '.join(settings)} cannot be given. Give its name instead."
                    )
                key: Any = id(one)
            else:
                key = (_place(one), LoadSettings.from_keywords(**settings))
            if key in seen:
                name = one.name if isinstance(one, Model) else os.fspath(one)
                notes.append(f"{name} is there twice with the same settings; it is measured once.")
                continue
            seen.add(key)
            place: Any = one if isinstance(one, str | Model) else Path(one)
            wanted.append(Wanted(place, settings, variant))
    if len(wanted) > _MAX_MODELS:
        raise InvalidValueError(
            f"These are {len(wanted)} models and settings; at most {_MAX_MODELS} can be measured "
            "at once.",
            limit=_MAX_MODELS,
        )
    return wanted


def _place(model: str | os.PathLike[str]) -> str:
    """Return what is the same for two names of one file."""
    try:
        return str(ModelLibrary().resolve(model))
    except ModelFileError:
        return os.fspath(model)  # it is told when its turn comes
