"""A window onto a run, against a plain reading of the same rows; and while the run goes on."""

from __future__ import annotations

import json
import math
import random
import threading
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.table_rows import Table
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store import batch_window_find, batch_window_kept, batch_window_words
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, Shape, TaskStatus
from gguf_widgets.core.store.batch_window import BatchWindow, WindowQuery
from gguf_widgets.core.store.batch_window_search import Search
from gguf_widgets.core.store.batch_window_shown import shown
from gguf_widgets.core.store.batch_window_words import folded, words_of
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Timings, Usage

COLUMNS = [
    {"name": "review", "dtype": "str"},
    {"name": 'a "b" é', "dtype": "object"},
    {"name": "label.x", "dtype": "float64"},
    {"name": None, "dtype": "int64", "index": True},
]
NAMES = ["review", 'a "b" é', "label.x"]
OUTPUTS = ["label", "null", "ünï"]

# Letters that have been trouble: of JSON, of patterns, of escapes, with other letters as their
# large form, beyond the first 65,536, and right to left.
letters = st.sampled_from('aAnNuUe05éÉßẞσςΣİıK"\\%_!*?[]{}:,$\n 🙂א')  # noqa: RUF001
texts = st.text(letters, max_size=8)
cells = st.one_of(
    st.none(),
    texts,
    st.integers(-3, 60),
    st.booleans(),
    st.sampled_from([{"$time": "2024-01-05T00:00:00"}, {"$float": "inf"}, {"$bytes": "bnVsbA=="}]),
    st.lists(texts, max_size=2),
)
numbers = st.one_of(st.none(), st.floats(-5, 5), st.integers(-5, 5))
values = st.fixed_dictionaries(
    {
        "label": st.one_of(st.none(), texts, st.booleans()),
        "null": st.one_of(st.none(), st.integers(0, 55)),
        "ünï": st.one_of(st.none(), texts, st.lists(texts, max_size=2)),
    }
)
words = st.one_of(
    st.just(""), texts, st.sampled_from(["null", "u00e9", "label", "n", "true", "05"])
)


class Made:
    """A run in the store, and the same as plain values."""

    def __init__(self, draw: Any) -> None:
        self.rows = draw(st.lists(st.tuples(texts, cells, numbers), min_size=1, max_size=6))
        self.shape = Shape(
            num_rows=len(self.rows),
            num_models=draw(st.integers(1, 2)),
            num_samples=draw(st.integers(1, 2)),
        )
        self.ended: dict[int, Outcome] = {}
        self.edits: dict[int, dict[str, Any]] = {}
        for number in range(self.shape.num_tasks):
            status = draw(st.sampled_from(list(TaskStatus)))
            if status is TaskStatus.WAITING:
                continue
            read = draw(values) if status is TaskStatus.DONE else None
            self.ended[number] = Outcome(
                number=number,
                status=status,
                text=draw(st.one_of(st.none(), texts)),
                values=read,
                certainty=draw(st.one_of(st.none(), st.sampled_from([0.1, 0.5, 0.9]))),
                usage=Usage(
                    num_prompt_tokens=1,
                    num_cached_tokens=0,
                    num_completion_tokens=draw(st.integers(0, 3)),
                ),
                timings=draw(
                    st.one_of(
                        st.none(),
                        st.builds(
                            lambda s: Timings(
                                queue_s=0.0, prefill_s=0.0, decode_s=s, ttft_s=0.0, total_s=s
                            ),
                            st.sampled_from([0.5, 1.5]),
                        ),
                    )
                ),
                error=None
                if status is TaskStatus.DONE
                else {"kind": "OutputError", "message": "no", "details": {}},
            )
            if read is not None and draw(st.booleans()):
                self.edits[number] = draw(values)

    def into(self, store: Store) -> str:
        run = BatchRuns(store).create(
            {"prompts": [{"name": ""}]},
            COLUMNS,
            num_models=self.shape.num_models,
            num_samples=self.shape.num_samples,
        )
        tasks = RunTasks(store, run.id)
        tasks.add_rows(
            json.dumps([*row, i], ensure_ascii=i % 2 == 0, separators=(",", ":"))
            for i, row in enumerate(self.rows)
        )
        tasks.save([(outcome, f"{n:032x}") for n, outcome in self.ended.items()])
        for number, edit in self.edits.items():
            tasks.edit(number, edit)
        return run.id

    # -- the plain reading ------------------------------------------------------------------------

    def read(self, number: int) -> dict[str, Any]:
        if number in self.edits:
            return self.edits[number]
        return (self.ended[number].values or {}) if number in self.ended else {}

    def status(self, number: int) -> str:
        return self.ended[number].status.value if number in self.ended else "waiting"

    def cell(self, number: int, column: str) -> Any:
        if column in NAMES:
            return self.rows[self.shape.place(number)[0]][NAMES.index(column)]
        return self.read(number).get(column)

    def meets(self, number: int, query: WindowQuery) -> bool:
        if query.status is not None and self.status(number) != query.status:
            return False
        for column, wanted in query.where.items():
            value = shown(self.cell(number, column))
            if isinstance(wanted, float) and isinstance(value, str) and "inf" in value:
                return False
            if value is None or wanted is None:
                if value is not wanted:
                    return False
            elif value != wanted:
                return False
        seen = [shown(value) for value in self.rows[self.shape.place(number)[0]]]
        seen += [
            json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v
            for v in self.read(number).values()
        ]
        if number in self.ended:
            seen.append(self.ended[number].text)
        as_text = [
            "" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in seen
        ]
        return all(
            any(folded(word) in folded(text) for text in as_text) for word in query.words.split()
        )

    def sort_value(self, number: int, sort: str) -> Any:
        outcome = self.ended.get(number)
        if sort == "certainty":
            return outcome.certainty if outcome else None
        if sort == "num_completion_tokens":
            return outcome.usage.num_completion_tokens if outcome and outcome.usage else None
        if sort == "total_s":
            return outcome.timings.total_s if outcome and outcome.timings else None
        return self.cell(number, sort)

    def select(self, query: WindowQuery) -> list[int]:
        found = [n for n in range(self.shape.num_tasks) if self.meets(n, query)]
        if query.sort == "row":
            return found[::-1] if query.descending else found
        keyed = [(sort_key(self.sort_value(n, query.sort)), n) for n in found]
        known = [(key, n) for key, n in keyed if key is not None]
        known.sort(key=lambda one: one[0], reverse=query.descending)
        return [n for _, n in known] + [n for key, n in keyed if key is None]


def sort_key(value: Any) -> Any:
    if value is None:
        return None
    if value == {"$float": "inf"}:
        return (0, math.inf, b"")
    if isinstance(value, bool | int | float):
        return (0, value, b"")
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    ascii_lower = "".join(c.lower() if c.isascii() else c for c in value)
    return (1, 0, ascii_lower.encode())


@given(st.data(), st.sampled_from([0, 3, 2000]), st.sampled_from([0, 4]), st.booleans())
@settings(max_examples=500)
def test_a_selection_is_what_a_plain_reading_finds(
    data: st.DataObject, few: int, forms: int, replies_are_known: bool
) -> None:
    with (
        mock.patch.object(batch_window_find, "_FEW", few),
        mock.patch.object(batch_window_words, "_MOST_FORMS", forms),
    ):
        check_some(data, replies_are_known)


def check_some(data: st.DataObject, replies_are_known: bool) -> None:
    made = Made(data.draw)
    with Store(":memory:") as store:
        window = BatchWindow(store, made.into(store))
        if replies_are_known:
            with store.reading() as connection:
                replies = batch_window_find.replies_of(connection, window._base)
            window._kept.put_order(("replies", window.changes()), replies)
        for _ in range(4):
            query = WindowQuery(
                status=data.draw(st.sampled_from([None, "done", "failed", "skipped", "waiting"])),
                words=data.draw(words),
                where=data.draw(
                    st.dictionaries(
                        st.sampled_from(["review", "label.x", *OUTPUTS[:2]]),
                        st.one_of(st.none(), texts, st.integers(-5, 55), st.booleans()),
                        max_size=1,
                    )
                ),
                sort=data.draw(
                    st.sampled_from(
                        ["row", "certainty", "total_s", "num_completion_tokens", *NAMES, "label"]
                    )
                ),
                descending=data.draw(st.booleans()),
            )
            selection = window.select(query)
            expected = made.select(query)
            assert [int(n) for n in selection.numbers] == expected
            assert selection.num_rows == len(expected)
            page = window.page(selection, 1, 4)
            assert [row.number for row in page] == expected[1:4]
            for row in page:
                assert (row.row, row.prompt, row.model, row.sample) == made.shape.place(row.number)
                assert row.status == made.status(row.number)
                assert row.values == {name: shown(made.cell(row.number, name)) for name in NAMES}
                assert set(row.outputs) == set(made.read(row.number))
                assert row.edited == (row.number in made.edits)
        counts = window.label_counts("label")
        real = Counter(
            (type(made.read(n)["label"]), made.read(n)["label"])
            for n in made.ended
            if made.read(n).get("label") is not None
        )
        assert {(type(key), key): n for key, n in counts.items()} == dict(real)


@pytest.mark.parametrize("word", ['"', '\\"', "\\\\", "\\n", '["a', '"É', 'é\\"'])
def test_a_list_is_found_by_the_signs_that_it_is_shown_with(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(batch_window_find, "_FEW", 0)
    with Store(":memory:") as store:
        run = BatchRuns(store).create(
            {"prompts": [{"name": ""}]}, [{"name": "t", "dtype": "object"}]
        )
        value = ["a", 'É"', "b\\c\n"]
        RunTasks(store, run.id).add_rows([json.dumps([value]), json.dumps(["a É b c n"])])
        RunTasks(store, run.id).save([done(1, values={"x": value})])
        expected = [0, 1] if word.lower() in json.dumps(value, ensure_ascii=False).lower() else []
        found = BatchWindow(store, run.id).select(WindowQuery(words=word)).numbers
        assert [int(number) for number in found] == expected
        assert expected


@given(texts, texts)
@example("ẞ", "ss")
@example("İ", "i")
def test_what_is_found_keeps_its_length_and_large_letters_do_not_matter(a: str, b: str) -> None:
    assert len(folded(a + b)) == len(a + b)
    assert folded(a) in folded(b + a.upper()) or any(
        len(c.upper()) > 1 or folded(c.upper()) != folded(c) for c in a
    )


@pytest.fixture
def big(tmp_path: Any) -> tuple[Store, str]:
    store = Store(tmp_path / "store.sqlite3")
    run = BatchRuns(store).create(
        {"prompts": [{"name": "tone"}, {"name": "order"}]},
        [{"name": "text", "dtype": "str"}],
        num_prompts=2,
    )
    tasks = RunTasks(store, run.id)
    tasks.add_rows(json.dumps([f"row {i} " + "long " * 200]) for i in range(100))
    return store, run.id


def done(number: int, **more: Any) -> tuple[Outcome, str]:
    outcome = Outcome(number=number, status=TaskStatus.DONE, text=f"reply {number}", **more)
    return outcome, f"{number:032x}"


def test_several_prompts_have_their_own_columns_and_long_texts_are_marked(
    big: tuple[Store, str],
) -> None:
    store, run_id = big
    RunTasks(store, run_id).save(
        [done(n, values={"tone": "good"} if n % 2 == 0 else {"item": f"x{n}"}) for n in range(20)]
    )
    window = BatchWindow(store, run_id)
    first, second = window.page(window.select(), 0, 2)
    assert (first.outputs, second.outputs) == ({"tone": "good"}, {"order.item": "x1"})
    assert first.cut == ("text",)
    assert first.values["text"].endswith("…")
    assert len(window.whole(0).inputs["text"]) > 1000
    assert window.whole(1).values == {"order.item": "x1"}
    assert window.label_counts("tone") == {"good": 10}
    assert window.select(WindowQuery(where={"order.item": "x7"})).num_rows == 1
    order = window.select(WindowQuery(sort="order.item", descending=True))
    assert [int(n) for n in order.numbers[:3]] == [9, 7, 5]
    assert window.whole(150).status == "waiting"
    with pytest.raises(InvalidValueError, match="200, from 0"):
        window.whole(200)
    with pytest.raises(InvalidValueError, match=r"at most 1,000"):
        window.page(order.__class__(num_rows=5000, token="", numbers=range(5000)), 0, 4000)
    with pytest.raises(InvalidValueError, match="no status"):
        window.select(WindowQuery(status="don"))  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="words"):
        words_of(" ".join(map(str, range(30))))


def test_the_names_of_columns_that_come_late_are_no_words_in_the_rows() -> None:
    with Store(":memory:") as store, mock.patch.object(batch_window_find, "_FEW", 0):
        spec = {"prompts": [{"name": "tone"}, {"name": "reason"}]}
        columns = [{"name": "text", "dtype": "str"}]
        run = BatchRuns(store).create(spec, columns, num_prompts=2, num_samples=250)
        tasks = RunTasks(store, run.id)
        tasks.add_rows([json.dumps(["a row"])])
        tasks.save([done(n, values={"tone": "good"}) for n in range(250)])
        tasks.save([done(n, values={"reason": "it shines"}) for n in range(250, 500)])
        window = BatchWindow(store, run.id)
        assert window.select(WindowQuery(words="shines")).num_rows == 250
        assert window.select(WindowQuery(words="reason")).num_rows == 0


@pytest.mark.parametrize("few", [0, 2000])
def test_what_is_shown_otherwise_than_it_is_kept_is_found_as_it_is_shown(few: int) -> None:
    columns = [{"name": "took", "dtype": "timedelta64[ns]"}, {"name": "cell", "dtype": "object"}]
    cells = [{"$image": "iVBORw0KGgo="}, {"$bytes": "bnVsbA=="}, "a day", 7]
    rows = [[{"$span": 93_784_500_000_000 * n}, cell] for n, cell in enumerate(cells)]
    with Store(":memory:") as store, mock.patch.object(batch_window_find, "_FEW", few):
        run = BatchRuns(store).create({}, columns)
        RunTasks(store, run.id).add_rows(map(json.dumps, rows))
        window = BatchWindow(store, run.id)
        for word in ("day", "DAYS", "02:03", "04.5", "2", "picture,", "ict", "4", "byte", "b", "+"):
            found = [int(n) for n in window.select(WindowQuery(words=word)).numbers]
            values = [[str(shown(cell)).lower() for cell in row] for row in rows]
            assert found == [n for n, row in enumerate(values) if word.lower() in "\n".join(row)]


def test_whole_numbers_beyond_sqlites_are_chosen_by_like_all_others() -> None:
    large = [2**63 - 1, 10**20, -(10**20), 3]
    with Store(":memory:") as store:
        run = BatchRuns(store).create({}, [{"name": "text", "dtype": "str"}])
        tasks = RunTasks(store, run.id)
        tasks.add_rows(json.dumps([f"row {i}"]) for i in range(5))
        tasks.save([done(n, values={"count": value}) for n, value in enumerate(large)])
        window = BatchWindow(store, run.id)
        for n, value in enumerate(large):
            found = window.select(WindowQuery(where={"count": value})).numbers
            assert [int(number) for number in found] == [n]
        assert window.select(WindowQuery(where={"count": 10**400})).num_rows == 0


def test_a_selection_stays_and_its_rows_are_as_they_are_now(big: tuple[Store, str]) -> None:
    store, run_id = big
    window, tasks = BatchWindow(store, run_id), RunTasks(store, run_id)
    waiting = window.select(WindowQuery(status="waiting"))
    assert window.select(WindowQuery(status="waiting")).token == waiting.token
    tasks.save([done(0)])
    assert [row.status for row in window.page(waiting, 0, 2)] == ["done", "waiting"]
    later = window.select(WindowQuery(status="waiting"))
    assert (later.num_rows, waiting.num_rows) == (199, 200)
    assert later.token != waiting.token
    tasks.edit(0, {"tone": "bad"})
    edited = window.select(WindowQuery(status="waiting"))
    assert edited.token != later.token
    tasks.forget([0])
    assert window.select(WindowQuery(status="waiting")).num_rows == 200
    assert waiting.position(3) == 3
    assert window.select().position(150) == 150


def test_what_is_made_beforehand_is_the_same_and_goes_with_the_rows(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_window_kept, "_FEWEST", 1)
    with Store(tmp_path / "store #1?.sqlite3") as store:
        run = BatchRuns(store).create(
            {"prompts": [{"name": ""}]}, [{"name": "text", "dtype": "str"}]
        )
        tasks = RunTasks(store, run.id)
        tasks.add_rows(json.dumps([f"Row {i * 7 % 50}"]) for i in range(50))
        tasks.save([done(n, values={"label": "aBc"[n % 3]}) for n in range(40)])
        queries = [
            WindowQuery(sort=sort, descending=descending)
            for sort in ("text", "label")
            for descending in (False, True)
        ]

        def found(window: BatchWindow) -> list[list[int]]:
            return [[int(n) for n in window.select(query).numbers] for query in queries]

        window = BatchWindow(store, run.id)
        window.select()
        assert window._kept.wait(30)
        kept = window._kept._orders._kept
        assert len(kept) == 1 + 6 + len(queries)  # the different replies, certainty and the like
        with mock.patch.object(Search, "by_column", side_effect=AssertionError("made again")):
            beforehand = found(window)
        monkeypatch.setattr(batch_window_kept, "_FEWEST", 1000)
        assert beforehand == found(BatchWindow(store, run.id))
        tasks.save([done(45, values={"label": "A"})])
        assert found(window) != beforehand
        assert found(window) == found(BatchWindow(store, run.id))


def test_while_another_thread_saves_each_moment_is_whole(big: tuple[Store, str]) -> None:
    store, run_id = big
    tasks, rng = RunTasks(store, run_id), random.Random(3)  # noqa: S311
    numbers = list(range(200))
    rng.shuffle(numbers)
    faults: list[BaseException] = []

    def save() -> None:
        try:
            with Store(store.path) as other:
                for number in numbers:
                    RunTasks(other, run_id).save([done(number, certainty=number / 200)])
        except BaseException as error:  # noqa: BLE001 - the test shows it
            faults.append(error)

    thread = threading.Thread(target=save)
    thread.start()
    window = BatchWindow(store, run_id)
    seen = [0]
    while thread.is_alive() or seen[-1] < 200:
        found = window.select(WindowQuery(status="done", sort="certainty"))
        listed = [int(n) for n in found.numbers]
        assert listed == sorted(listed), "certainty grows with the number"
        assert all(row.status == "done" for row in window.page(found, 0, found.num_rows))
        seen.append(found.num_rows)
        assert not faults
    thread.join()
    assert seen == sorted(seen)
    assert tasks.counts().waiting == 0


def test_what_a_person_gives_is_shown_as_it_is_meant(tmp_path: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "when": pd.to_datetime(["2024-05-01", None]),
            "how long": pd.to_timedelta(["1 days 02:00:00", "-3s"]),
            3: [b"abc", {"k": [1, None]}],
        },
        index=["x", "y"],
    )
    table = Table.of(frame)
    with Store(tmp_path / "s.sqlite3") as store:
        run = BatchRuns(store).create({"prompts": [{"name": ""}]}, table.columns)
        RunTasks(store, run.id).add_rows(table.as_json())
        window = BatchWindow(store, run.id)
        assert window.columns == table.names
        first, second = window.page(window.select(), 0, 2)
        assert first.values == {
            "when": "2024-05-01T00:00:00",
            "how long": "1 day 02:00:00",
            "3": "3 bytes",
        }
        assert second.values == {"when": None, "how long": "-00:00:03", "3": '{"k": [1, null]}'}
        by_span = window.select(WindowQuery(sort="how long"))
        assert list(by_span.numbers) == [1, 0]
        assert window.select(WindowQuery(where={"when": "2024-05-01T00:00:00"})).num_rows == 1
        assert window.select(WindowQuery(words="x")).num_rows == 0, "the index is not shown"
