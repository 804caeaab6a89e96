"""What makes two questions alike, and that a run of before is gone on with as it was begun."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from gguf_widgets.batch.alike import Alike
from gguf_widgets.batch.images import ImageColumns
from gguf_widgets.batch.missing import MissingRule
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.question import Answer, Known, Question
from gguf_widgets.batch.questions import Asker, RequestAsker, questions
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.store import batch_tasks
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.store.store import Store

MODEL = ModelRef("m", "/m.gguf", "123-abc", {"n_ctx": 512})
ASK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Grüße {a}"},
]


def spec(*models: ModelRef, ask: Any = ASK, schema: Any = ("x", "y"), **more: Any) -> Spec:
    prompt = Prompt(Template.parse(ask), Output.parse(list(schema) if schema else None))
    sampling = {"temperature": 0.0}
    return Spec((prompt,), models or (MODEL,), sampling, seed=7, **more)


def key(asker: Asker, row: dict[str, Any]) -> str:
    ((_, question),) = asker.ask(row, [(0, 5)])
    assert isinstance(question, Question)
    return question.key


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, "dc02321ecf2e016129d5c638d7d04e17"),
        ({"n": 1, "max_tokens": 5, "stop": ["."]}, "9d836bb52b77ec48b1584f067ba84541"),
        ({"n": 1, "temperature": 1.0}, "6dfd4966070d12fcd92f183e338bc9bd"),
    ],
)
def test_keys_are_those_of_earlier_versions(settings: dict[str, Any] | None, expected: str) -> None:
    """They are in stores: with others, a run that goes on would ask again what it has asked."""
    if settings is None:
        assert key(Asker(spec(), 0, 0), {"a": "é\n1"}) == expected
        return
    row = {
        "messages": [{"role": "user", "content": "é 1"}],
        "settings": settings,
        "unsupported": [],
    }
    asker = RequestAsker(spec(ask="{prompt}", schema=None, requests=True), 0, 0)
    assert key(asker, row) == expected


def test_one_file_loaded_in_two_ways_answers_twice() -> None:
    adapted = dataclasses.replace(MODEL, settings={**MODEL.settings, "lora": [["/a.gguf", 1.0]]})
    other = dataclasses.replace(MODEL, identity="9-f")
    both = spec(MODEL, adapted, other)
    keys = [key(Asker(both, 0, number), {"a": 1}) for number in range(3)]
    assert len(set(keys)) == 3
    assert keys[0] == key(Asker(spec(), 0, 0), {"a": 1})
    assert keys[2] == key(Asker(spec(other), 0, 0), {"a": 1})


def test_a_run_goes_on_with_its_own_adapters_and_projector_only() -> None:
    def loaded(**settings: Any) -> ModelRef:
        return dataclasses.replace(MODEL, settings={"n_ctx": 2048, **settings})

    text, pictures = spec(), spec(loaded(mmproj="/p.gguf"), images=ImageColumns(("photo",)))
    assert text.may_ask(loaded())
    assert text.may_ask(loaded(mmproj="/p.gguf")), "which a text does not need"
    assert not text.may_ask(loaded(lora=[["/a.gguf", 1.0]]))
    assert pictures.may_ask(loaded(mmproj="/p.gguf"))
    assert not pictures.may_ask(loaded(mmproj="/q.gguf"))
    kept = Spec.from_dict(spec(loaded(lora=[["/a.gguf", 0.5]])).to_dict())
    assert kept.may_ask(loaded(lora=(("/a.gguf", 0.5),)))
    assert not kept.may_ask(loaded(lora=(("/a.gguf", 0.25),)))


def test_a_row_without_its_image_says_so_once() -> None:
    images = ImageColumns(("photo",))
    asked = spec(ask="{photo} What?", images=images, missing=MissingRule("skip"))
    ((_, known),) = Asker(asked, 0, 0).ask({"photo": None}, [(0, 0)])
    assert isinstance(known, Known)
    assert known.outcome.error is not None
    assert known.outcome.error["message"] == 'no value in column "photo"'


def test_those_who_wait_for_the_answer_of_another_are_not_held_in_memory() -> None:
    class Text(str):
        pass

    class Nobody:
        def answer_to(self, _key: str) -> None:
            return None

    def question(number: int) -> tuple[Question, weakref.ref[Text]]:
        text = Text("as long as a picture")
        messages: Any = [{"role": "user", "content": text}]
        made = Question(number, "f" * 32, messages, {}, lambda _: Answer({}), alike=True)
        return made, weakref.ref(text)

    alike = Alike(Nobody())  # type: ignore[arg-type]
    first, _ = question(0)
    assert alike.is_answered(first) is False
    held = []
    for number in (1, 2):
        follower, text = question(number)
        assert alike.is_answered(follower) is True
        held.append(text)
        del follower
    assert [text() for text in held] == [None, None]
    ended = alike.ended(first, Outcome(number=0, status=TaskStatus.DONE, text="yes"))
    assert [(one.number, one.text, key) for one, key in ended] == [
        (number, "yes", "f" * 32) for number in range(3)
    ]


def test_of_rows_with_images_only_a_few_are_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_tasks, "_CHARS_AT_ONCE", 160_000)

    class Counting(RunTasks):
        most = 0

        def rows(self, start: int, stop: int) -> list[str]:
            found = super().rows(start, stop)
            self.most = max(self.most, sum(map(len, found)))
            return found

    picture = json.dumps([{"$bytes": "A" * 20_000}])
    brought: list[int] = []

    def rows() -> Iterator[str]:
        for number in range(40):
            with store.reading() as connection:
                (kept,) = connection.execute("SELECT count(*) FROM batch_row").fetchone()
            brought.append(number - kept)
            yield picture

    run = BatchRuns(store).create({}, [{"name": "photo"}])
    tasks = Counting(store, run.id)
    assert tasks.add_rows(rows()) == 40
    assert max(brought) * len(picture) < 200_000, "not yet in the store"
    assert BatchRuns(store).get(run.id).complete
    assert sum(1 for _ in tasks.each_row(3, 38)) == 35
    assert tasks.most < 400_000
    ask = spec(ask="What is it?", schema=None)
    shape = BatchRuns(store).get(run.id).shape
    assert sum(1 for _ in questions(ask, tasks, shape, ["photo"], 0)) == 40
    assert tasks.most < 400_000


@pytest.mark.parametrize("num", [0, 1, 15, 16, 17, 48, 2000, 4001])
def test_rows_one_by_one_are_those_of_the_table(store: Store, num: int) -> None:
    run = BatchRuns(store).create({}, [])
    tasks = RunTasks(store, run.id)
    assert tasks.add_rows(f"[{number}]" for number in range(num)) == num
    assert BatchRuns(store).get(run.id).complete
    assert list(tasks.each_row(0, num + 5)) == tasks.rows(0, num)
    assert list(tasks.each_row(7, 9)) == tasks.rows(7, 9)
