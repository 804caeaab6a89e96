"""`compare`: makes comparisons, and finds those of before.

Promises: whatever is wrong with sides, prompts, references, scores or settings is said before a
model is loaded; the prompts are in the store before the first is asked. Leaves to others: what a
comparison is (`comparison`), carrying it out (`carrying`).
"""

from __future__ import annotations

import uuid
from typing import Any

from gguf_widgets.batch.output import Output
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.definition import ORDERS, Definition
from gguf_widgets.compare.prompts import PLAIN_TEMPLATE, Prompts
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.scorings import check_references, parse_scorings
from gguf_widgets.compare.showing import ComparisonList, ShownComparison
from gguf_widgets.compare.sides import Common, sides_of
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["compare", "comparisons", "prepare", "resume_comparison"]

_SHOW_S = 0.25


def compare(
    sides: Any,
    prompts: Any,
    *,
    template: Any = PLAIN_TEMPLATE,
    references: Any = None,
    scores: Any = (),
    system: str | None = None,
    schema: Any = None,
    reproducible: bool = False,
    stop_early: bool | str = False,
    order: str = "auto",
    title: str = "",
    wait: bool = True,
    progress: bool | None = None,
    store: Store | None = None,
    manager: ModelManager | None = None,
    **sampling: Any,
) -> Comparison:
    """Ask two to four models the same, and find out which does better.

    Each side's answers are a batch run: they are kept as they come, and a comparison that was
    interrupted goes on where it was (`resume_comparison`). Models that memory holds together take
    turns, so that none disturbs another's speed; else one comes after another, and `notes` says so.
    A side that cannot be loaded is told and left out.

    Parameters
    ----------
    sides : list of str, path, Model or Side
        Two to four: models, quantisations of one, or the same model with other settings or another
        prompt (`gw.compare.Side`).
    prompts : str, list of str, list of dict, dict of lists, DataFrame, Series or path
        A str is one prompt; a `pathlib.Path` a file whose rows are asked.
    template : str or list of messages, default "{prompt}"
        With the table's columns in it, as for `Model.map`. A table with one column needs none.
    references : list or str, optional
        What is right: one for each prompt (a text, a number, a list of right answers, a dict for
        JSON), or the name of a column.
    scores : str, scoring, function, or list of these
        ``"exact"``, ``"regex"``, ``"json"``, ``"length"``, ``"words"``, ``"time"``;
        `gw.compare.ExactMatch`, `Regex`, `JsonFields`, `Similarity`, `Judge`, `Length`, `Time`; or
        your own ``function(answer, reference, row)``. Default: "exact" where there are references,
        and "length".
    system : str, optional
        A system message for every prompt.
    schema : optional
        What a reply may be, as for `Model.map`: choices, a JSON schema, ...
    reproducible : bool, default False
        Strict mode: each answer is computed by itself, so that it can be repeated to the last
        digit. Slow.
    stop_early : bool or str, default False
        Stop as soon as it is clear which side is best in a score (True: the first that has
        bounds). Prompts are then asked in an order that is drawn. Of equally good sides at most 5%
        are called different, however often is looked: `compare.sequential`.
    order : {"auto", "together", "one by one"}, default "auto"
        "together" has all sides answer at the same time: quicker where a machine has room, but
        their speeds disturb each other.
    title : str
    wait : bool, default True
        Wait for the end; else it goes on in the background.
    progress : bool, optional
        Show how far it is while you wait. Default: where somebody can see it.
    store, manager : optional
        Default: this user's store, this process's manager.
    **sampling
        Fields of `SamplingSettings` for all sides; the temperature is 0 unless told.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidValueError
        Something of this cannot be: the message says what, and what can.
    TableFileError, RowError
        The prompts cannot be read, or kept.
    BatchError
        No side can answer.
    StoreError
        The store cannot be written to.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> comparison = gw.compare(  # doctest: +SKIP
    ...     ["model-Q8_0", "model-Q4_0"], ["What is 2 + 2?"], references=["4"], max_tokens=20
    ... )
    >>> print(comparison.difference(0, 1, "exact"))  # doctest: +SKIP
    """
    made = prepare(
        sides,
        prompts,
        template=template,
        references=references,
        scores=scores,
        system=system,
        schema=schema,
        reproducible=reproducible,
        stop_early=stop_early,
        order=order,
        title=title,
        store=store,
        manager=manager,
        **sampling,
    ).start()
    return wait_shown(made, progress) if wait else made


def prepare(
    sides: Any,
    prompts: Any,
    *,
    template: Any = PLAIN_TEMPLATE,
    references: Any = None,
    scores: Any = (),
    system: str | None = None,
    schema: Any = None,
    reproducible: bool = False,
    stop_early: bool | str = False,
    order: str = "auto",
    title: str = "",
    store: Store | None = None,
    manager: ModelManager | None = None,
    **sampling: Any,
) -> Comparison:
    """Make a comparison that has not begun: everything is checked and kept; see `compare`."""
    if order not in ORDERS:
        raise InvalidValueError(
            f"order={order!r:.40} is none of {', '.join(map(repr, ORDERS))}.", value=str(order)[:40]
        )
    if "schema" in sampling or "reproducible" in sampling:  # for the type checker: they are named
        raise InvalidValueError("Give schema= and reproducible= once.")
    given = Prompts.of(prompts, references)
    common = Common(
        template=_plain(given.template(template)),
        system=system,
        schema=None if schema is None else Output.parse(schema).to_dict(),
        sampling=dict(sampling),
        reproducible=bool(reproducible),
    )
    records, models = sides_of(sides, common)
    given.check([side.prompt(common) for side in records])
    scorings = parse_scorings(scores, has_references=given.references is not None)
    check_references(scorings, given.references or [])
    definition = Definition(
        sides=records,
        common=common,
        scorings=scorings,
        columns=given.columns,
        has_references=given.references is not None,
        stop_early=_deciding(stop_early, scorings),
        order=order,  # type: ignore[arg-type]
    )
    own = store if store is not None else default_store()
    record = Records(own).create(
        definition.to_dict(),
        given.rows,
        given.references,
        title=plain_text(title, 200) if title else "",
        comparison_id=uuid.uuid4().hex,
    )
    return Comparison(
        record.id, own, manager if manager is not None else default_manager(), models, scorings
    )


def _plain(template: Any) -> Any:
    return template if isinstance(template, str) else [dict(message) for message in template]


def _deciding(stop_early: bool | str, scorings: list[Scoring]) -> str | None:
    """Return the score that may end the comparison early."""
    if stop_early is False or stop_early is None:
        return None
    able = [one for one in scorings if one.bounds is not None and one.kind != "judge"]
    names = ", ".join(f'"{one.name}"' for one in able) or "none of these scores"
    if stop_early is True:
        if not able:
            raise InvalidValueError(
                "stop_early needs a score that has bounds and is known after each answer, such as "
                '"exact"; of the scores given none is.'
            )
        return able[0].name
    if not any(one.name == stop_early for one in able):
        raise InvalidValueError(
            f"stop_early={stop_early!r:.60}: a comparison can end early by a score that has bounds "
            f"and is known after each answer: {names}.",
            value=str(stop_early)[:60],
        )
    return str(stop_early)


def comparisons(*, store: Store | None = None, limit: int = 100) -> ComparisonList:
    """Return the comparisons in the store, the newest first; a table in a notebook."""
    own = store if store is not None else default_store()
    return ComparisonList(
        Comparison(record.id, own, default_manager()) for record in Records(own).recent(limit=limit)
    )


def resume_comparison(
    comparison_id: str,
    *,
    scores: Any = (),
    wait: bool = True,
    progress: bool | None = None,
    store: Store | None = None,
    manager: ModelManager | None = None,
) -> Comparison:
    """Go on with a comparison of before: what has been answered and scored stays.

    Parameters
    ----------
    comparison_id : str
        Its id, or the beginning of it.
    scores : function or list of functions, optional
        Scorings of your own that it had: no store can hold a function.
    wait : bool, default True
        Wait for the end; else it goes on in the background.
    progress : bool, optional
        As for `compare`.

    Raises
    ------
    InvalidValueError
        There is none, or there are several.
    BatchError
        Another process is at it; no side can answer.
    """
    made = Comparison.open(comparison_id, store=store, manager=manager)
    if scores != ():
        made.give_functions(scores)
    made.start()
    return wait_shown(made, progress) if wait else made


def wait_shown(made: Comparison, progress: bool | None) -> Comparison:
    """Wait for a comparison, and show how far it is."""
    with ShownComparison(made, progress) as shown:
        while True:
            try:
                return made.wait(_SHOW_S)
            except TimeoutError:
                shown.show()
