"""`ComparisonView`: the same asked of two to four models, settings or prompts, on the screen.

Promises: one prompt is answered side by side while a person reads along; a list of prompts is a
`Comparison`, which is kept, goes on without its page and is found again; whatever is wrong is told
where it is, before a model is loaded; callbacks only enqueue. Leaves to others: what is set up
(`_comparison_setup`), one prompt (`_comparison_ask`), an open comparison (`_comparison_acts`,
`_comparison_open`), votes (`_comparison_vote`), the look (static/).

The page's messages, each with a ``mid``: ``snapshot``, ``ping``, ``start``, ``text-again``,
``dismiss``, and those in ``ACTIONS`` of its parts. Python's: ``state`` (numbered; the parts of the
state that have changed, or all), ``text`` (numbered; see `_comparison_feed`), ``pong``, ``answer``
to a ``mid``.

Work that may take long has threads of its own: one for what is typed and for models, one for
comparisons, tables and files, one for figures, and those of a question under way.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import anywidget
import traitlets

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.sides import MAX_SIDES, Side
from gguf_widgets.compare.types import ComparisonStatus
from gguf_widgets.core.errors import InvalidValueError, StoreError
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_source import given_table
from gguf_widgets.widgets._batch_state import StateFeed
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._comparison_acts import Acts
from gguf_widgets.widgets._comparison_ask import Asking
from gguf_widgets.widgets._comparison_earlier import Earlier
from gguf_widgets.widgets._comparison_feed import TextFeed
from gguf_widgets.widgets._comparison_open import OpenComparison
from gguf_widgets.widgets._comparison_send import FORMATS
from gguf_widgets.widgets._comparison_setup import SetUp
from gguf_widgets.widgets._comparison_vote import Voting
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._page_work import PageWork

__all__ = ["ComparisonView"]

_STATIC = Path(__file__).parent / "static"
_STYLES: Final = ("batch_table.css", "chat_box.css", "_chat_reading.css", "comparison_view.css")

_log = logging.getLogger(__name__)

_WATCH_S: Final = 0.5  # while a comparison is under way
_LIVE_S: Final = 0.25  # figures that change faster cannot be read
_RESULT_S: Final = 1.0

Message = dict[str, Any]


class ComparisonView(anywidget.AnyWidget, PageWork):
    """Compare models, quantisations, settings or prompts, on the screen.

    Parameters
    ----------
    sides : list of str, path, Model or Side, optional
        Two to four, as for `gguf_widgets.compare`; default: chosen on the screen.
    prompts : str, list of str, list of dict, DataFrame, Series, RowSource or path, optional
        One prompt (a str), or a table of them; default: typed, pasted or chosen on the screen.
    comparison : Comparison or str, optional
        One to show, or its id.
    manager : ModelManager, optional
        Whose library is offered; default: this process's own.
    store : Store, optional
        Where comparisons are kept; default: this user's.
    own_process : bool, default False
        Have comparisons over many prompts carried out by a process of their own, which goes on when
        this Python ends.

    Attributes
    ----------
    comparison : Comparison or None
        What is shown; ``view.observe(callback, "comparison")`` tells of the next.

    Raises
    ------
    InvalidValueError
        A side is none, there are too many, or there is no such comparison.
    TableFileError
        The file of prompts cannot be read.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.ComparisonView(["model-Q8_0", "model-Q4_0"])  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "comparison_view.js")
    _css = css(*(_STATIC / name for name in _STYLES))
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    comparison = traitlets.Instance(Comparison, allow_none=True)

    def __init__(
        self,
        sides: Sequence[Any] | None = None,
        prompts: Any = None,
        *,
        comparison: Comparison | str | None = None,
        manager: ModelManager | None = None,
        store: Store | None = None,
        own_process: bool = False,
    ) -> None:
        self._store = store if store is not None else default_store()
        self._manager = manager if manager is not None else default_manager()
        self._own_process = own_process
        given_sides = _sides_in(sides)
        prompt = prompts if isinstance(prompts, str) else None
        given = None if prompts is None or prompt is not None else given_table(prompts)
        opened = self._found(comparison) if isinstance(comparison, str) else comparison
        super().__init__(**new_identity())
        name = f"ComparisonView-{self.model_id[:8]}"
        self._blocked, self._is_framed = "", False
        self._shown: OpenComparison | None = None
        self._forget: Callable[[], None] = lambda: None
        self._open_part: Message | None = None
        self._is_open_old, self._was_under_way = True, False
        self._looked = 0.0
        self._feed = StateFeed(self._tell, self._parts)
        self._actor = Actor(name, self._work, self._tick, self._failed)
        self._heavy = Actor(f"{name}-work", self._do_heavy, failed=self._failed)
        self._set_up = SetUp(
            self,
            self._store,
            self._manager,
            f"{name}-typing",
            given_sides,
            given,
            prompt,
            self._failed,
        )
        keeps = given_sides is None and prompts is None
        importlib.import_module("gguf_widgets.widgets._compare_figures")  # makes its pictures
        self._asking = Asking(self, self._set_up, self._store, self._manager, keeps=keeps)
        self._text = TextFeed(self._asking.live, self._tell)
        self._acts = Acts(self, self._store, f"{name}-figures", self._failed)
        self._earlier = Earlier(self, self._store, self._manager)
        self._parts_of_page: tuple[Any, ...] = (
            self._set_up,
            self._set_up.table,
            self._asking,
            self._acts,
            Voting(self),
            self._earlier,
        )
        self.observe(lambda change: self._show(change.new), "comparison")
        if opened is not None:
            self.comparison = opened
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)

    @classmethod
    def resumed(
        cls, *, manager: ModelManager, store: Store, own_process: bool = False
    ) -> ComparisonView:
        """Return a view that shows the comparison under way, if there is one; else an empty one."""
        try:
            recent = Records(store).recent(limit=20)
        except StoreError:  # the view says what is wrong with the store
            recent = []
        under_way = (one.id for one in recent if one.status is ComparisonStatus.RUNNING)
        return cls(
            comparison=next(under_way, None), manager=manager, store=store, own_process=own_process
        )

    # -- from code --------------------------------------------------------------------------------

    def start(self) -> Comparison:
        """Begin a comparison over the table of prompts, as the button does; return it.

        Raises
        ------
        InvalidValueError
            There is no table, or something that is set up is wrong: the message says what.
        """
        comparison = self._set_up.prepared()
        self._acts.begin(comparison)
        self.comparison = comparison
        return comparison

    @property
    def own_process(self) -> bool:
        """Whether comparisons are carried out by a process of their own."""
        return self._own_process

    def close(self) -> None:
        """End the widget; a comparison that is under way goes on."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_earlier"):
            self._forget()
            self._asking.close()
            self._heavy.close()
            self._actor.close()
            self._acts.close()
            self._set_up.close()
        super().close()

    def show_in_frame(self, *, blocked: str = "", model: str = "") -> None:
        """Tell the view that it is part of a dashboard, which has a place to choose a model.

        Parameters
        ----------
        blocked : str
            Why nothing can be asked at this moment; "" if it can.
        model : str
            The name of the model that was loaded there: one side, as long as nobody chose.
        """
        self._blocked, self._is_framed = blocked, True

        def take() -> None:
            if model:
                self._set_up.use_model(model)
            self._set_up.look_for_models()

        if self._set_up.has_been_seen:
            self.soon(take)

    def _worked(self) -> None:
        self._is_open_old = True

    # -- from the page ----------------------------------------------------------------------------

    def _tell(self, content: Message) -> None:
        self.send(content)

    def _ping(self, content: Message) -> None:
        pong = {"kind": "pong", "mid": content.get("mid")}
        self.send(pong | {"seq": self._feed.seq, "text": self._text.seq})

    def _snapshot(self, _content: Message) -> None:
        self._feed.reset()
        self._text.reset()
        self._is_open_old = True
        self._set_up.begin_to_look()
        self._earlier.look_first()

    def _text_again(self, _content: Message) -> None:
        self._text.reset()

    def _dismiss(self, _content: Message) -> None:
        self._notice = ""

    def _start_clicked(self, _content: Message) -> Message:
        self._set_up.checked()
        if self._set_up.table.given is None:
            raise InvalidValueError("Choose a table of prompts first.")

        def start() -> None:
            self.start()
            self._earlier.look()

        self.at_work("starting", start)
        return {}

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message], Message | None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "text-again": _text_again,
        "start": _start_clicked,
        "dismiss": _dismiss,
    }

    # -- the comparison that is shown -------------------------------------------------------------

    def _found(self, comparison_id: str) -> Comparison:
        return Comparison.open(comparison_id, store=self._store, manager=self._manager)

    def _show(self, comparison: Comparison | None) -> None:
        """Show another comparison; on whatever thread set it."""
        self._forget()
        self._forget = lambda: None
        self._shown = None if comparison is None else OpenComparison(comparison)
        self._is_open_old = True
        if comparison is not None:
            self._forget = comparison.observe(self._on_comparison)
        self.touch()

    def _on_comparison(self, _comparison: Comparison) -> None:
        self._is_open_old = True
        self.touch()

    def opened(self) -> OpenComparison:
        """Return the comparison that is shown, with its figures; for the widget's own parts.

        Raises
        ------
        InvalidValueError
            None is.
        """
        shown = self._shown
        if shown is None:
            raise InvalidValueError("No comparison is open.")
        return shown

    def open_comparison(self) -> Comparison:
        """Return the comparison that is shown; for the widget's own parts."""
        return self.opened().comparison

    def list_soon(self) -> None:
        """Have the earlier comparisons listed again; for the widget's own parts."""
        self._heavy.post(self._earlier.look)

    def shown_id(self) -> str | None:
        """Return which comparison is shown; for the widget's own parts."""
        return None if self.comparison is None else self.comparison.id

    def show(self, comparison_id: str | None) -> None:
        """Show a comparison by its id, or none; for the widget's own parts."""
        if comparison_id is None:
            self.comparison = None
        elif self.shown_id() != comparison_id:
            self.comparison = self._found(comparison_id)
        self._notice, self._is_open_old = "", True

    # -- to the page ------------------------------------------------------------------------------

    def _tick(self) -> float | None:
        """Send what is due; say when to be called again."""
        shown, live = self._shown, self._asking.live
        is_under_way = shown is not None and shown.is_under_way
        if (
            is_under_way != self._was_under_way
        ):  # nobody tells of another process's beginning, or end
            self._was_under_way, self._is_open_old = is_under_way, True
        waits: list[float | None] = []
        if shown is not None:
            early = self._looked + (_RESULT_S if is_under_way else _LIVE_S) - time.monotonic()
            if early <= 0:
                self._looked = time.monotonic()
                self._is_open_old = self._is_open_old or is_under_way
                self._acts.look_at_result(shown)
            waits.append(early if early > 0 else None)
        is_running = live.is_running
        if not is_running:
            self._asking.keep()
        waits += [self._text.tick(), self._feed.tick()]
        waits += [_LIVE_S] if is_running else []
        waits += [_WATCH_S] if is_under_way else []
        known = [wait for wait in waits if wait is not None]
        return min(known) if known else None

    def _parts(self) -> Message:
        """Return the whole state, part by part; each is sent when it differs from what was sent."""
        shown = self._shown
        if shown is None:
            self._open_part = None
        elif self._is_open_old or self._open_part is None:
            self._is_open_old = False
            self._open_part = shown.part(is_framed=self._is_framed)
        return {
            **self._set_up.parts(),
            "live": self._asking.part(),
            "open": self._open_part,
            "result": None if shown is None else shown.result,
            "earlier": self._earlier.part(),
            "busy": self._busy,
            "blocked": self._blocked,
            "isFramed": self._is_framed,
            "isDemoMode": self._manager.demo_reason() is not None,
            "notice": self._notice,
            "formats": [{"ending": a, "label": b, "title": c} for a, b, c in FORMATS],
        }


def _sides_in(given: Sequence[Any] | None) -> list[Side] | None:
    """Return the sides that were given from code."""
    if given is None:
        return None
    if isinstance(given, str | Path | Model | Side) or not isinstance(given, Sequence):
        raise InvalidValueError(
            "The sides are a list of models, such as ['a.gguf', 'b.gguf'], not a "
            f"{type(given).__name__}."
        )
    sides = [one if isinstance(one, Side) else Side(one) for one in given]
    if not 1 <= len(sides) <= MAX_SIDES:
        raise InvalidValueError(
            f"A comparison has {MAX_SIDES} sides at most, and {len(sides)} were given.",
            limit=MAX_SIDES,
        )
    for number, side in enumerate(sides, 1):
        if not isinstance(side.model, str | Path | Model):
            raise InvalidValueError(
                f"Side {number} is a {type(side.model).__name__}; it must be a loaded model, a "
                "model's name, or the path of its file."
            )
    return sides
