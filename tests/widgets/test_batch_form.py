"""Templates that are put into the form, what was there before, and the turns before a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.batch_page import LABELS, Page, reviews

from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.template import MAX_SOURCE_CHARS
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.widgets._batch_draft import Draft, Turn, draft_of_spec, judge
from gguf_widgets.widgets._batch_history import Form, History

Open = Callable[..., Page]

CHAT = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "The soup was cold."},
    {"role": "assistant", "content": "negative"},
    {"role": "user", "content": "{review}"},
]


def test_a_template_is_shown_at_once_and_what_was_there_comes_back(
    open_batch: Open, model: Model
) -> None:
    page = open_batch(model, reviews())
    page.draft(prompt="Mine {review}", answer=page.answer(kind="choice", choices=LABELS))
    page.widget.use_template(CHAT, model="another one")
    state = page.until(lambda state: state["draft"]["fills"] == 1)
    draft = state["draft"]["draft"]
    assert (draft["prompt"], draft["system"]) == ("{review}", "You are brief.")
    assert [turn["role"] for turn in draft["turns"]] == ["user", "assistant"]
    assert draft["answer"]["choices"] == LABELS  # only the prompt is another one
    assert 'used with the model "another one"; here "demo" is asked' in state["draft"]["words"]
    state = page.until(lambda state: len(state["preview"]["messages"]) == 4)
    assert state["preview"]["messages"][-1]["text"] == "The food was great."
    assert state["preview"]["messages"][2]["text"] == "negative"

    # What was typed before the page heard of it is not lost, and does not overwrite it either.
    late = {**draft, "prompt": "Mine, and more {review}", "system": "", "turns": []}
    page.ask("draft", draft=late, fills=0)
    state = page.until(lambda state: state["draft"]["hasBefore"])
    assert state["draft"]["draft"]["prompt"] == "{review}"
    page.ask("draft-back")
    state = page.until(lambda state: state["draft"]["fills"] == 2)
    assert state["draft"]["draft"]["prompt"] == "Mine, and more {review}"
    assert state["draft"]["hasAfter"]
    page.ask("draft-forward")
    state = page.until(lambda state: state["draft"]["fills"] == 3)
    assert state["draft"]["draft"]["turns"] == draft["turns"]


def test_an_open_run_makes_room_for_a_template(open_batch: Open, model: Model) -> None:
    page = open_batch(model, [f"Tell me story number {i}" for i in range(40)])
    page.draft(prompt="{text}", maxTokens="40")
    page.ask("start")
    state = page.until(lambda state: state["run"])
    run = page.widget.run
    assert run is not None
    page.widget.use_template("Shorter: {text}")
    state = page.until(lambda state: state["run"] is None)
    assert state["draft"]["draft"]["prompt"] == "Shorter: {text}"
    run.wait(60)  # it has gone on
    assert run.counts.done == 40


def test_a_table_without_a_model_takes_the_one_that_the_template_was_used_with(
    open_batch: Open, model: Model
) -> None:
    page = open_batch(None, reviews())
    page.widget.use_template("{review}", model="demo")
    assert page.widget.model is model


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHAT[:3], "ends with 'assistant'"),
        ([{"role": "system", "content": "Be brief."}], "ends with 'system'"),
        ([{"role": "tool", "content": "42"}, CHAT[-1]], "has the role 'tool'"),
        ([*CHAT[1:3] * 150, CHAT[-1]], "300 messages before the last"),
        ("x" * (MAX_SOURCE_CHARS + 1), "1,000,001 characters"),
        ([], "empty"),
        (3, "a text or a list of messages"),
    ],
)
def test_a_template_that_cannot_be_is_refused_and_changes_nothing(
    open_batch: Open, template: Any, words: str
) -> None:
    page = open_batch()
    page.draft(prompt="Mine")
    with pytest.raises(InvalidValueError, match=words):
        page.widget.use_template(template)
    assert page.widget._set_up.draft.prompt == "Mine"


def test_faults_in_turns_are_told_there(open_batch: Open) -> None:
    draft = Draft(prompt="{review}", system="Be brief.", turns=[Turn("user", "See {other}")])
    faults = judge(draft, ["review"]).faults
    assert list(faults) == ["turns"]
    broken = judge(Draft(prompt="{review}", turns=[Turn("user", "See {this")]), ["review"]).faults
    assert list(broken) == ["turns"]
    assert "Message 1 (user)" in broken["turns"]


def test_turns_come_back_from_a_run(model: Model) -> None:
    draft = draft_of_spec(Spec.make(CHAT, [model], schema=LABELS))
    assert draft is not None
    assert [turn.content for turn in draft.turns] == ["The soup was cold.", "negative"]
    assert draft_of_spec(Spec.make(CHAT[:3], [model])) is None


@given(st.lists(st.one_of(st.integers(0, 99), st.sampled_from(["back", "on", "late", "type"]))))
def test_no_form_is_lost_that_something_was_typed_into(steps: list[int | str]) -> None:
    """Whatever is put in, changed, gone back and forward to: each is still reachable."""
    history = History()
    wanted: set[str] = set()
    stale = history.fills
    for count, step in enumerate(steps):
        before = history.form.draft.prompt
        text = f"text {count}"
        if step == "back":
            history.back()
        elif step == "on":
            history.forward()
        elif step == "type":
            history.change(Draft(prompt=text))
            wanted.discard(before)
            wanted.add(text)
        elif step == "late" and stale != history.fills:
            kept = {form.draft.prompt for form in history._forms}
            history.late(Draft(prompt=text))
            # It takes the place of what the same page had typed a moment before, at most.
            gone = kept - {form.draft.prompt for form in history._forms}
            assert len(gone) <= 1
            wanted = (wanted - gone) | {text}
        elif isinstance(step, int):
            history.put(Form(Draft(prompt=text)))
            wanted.add(text)
        if len(wanted) > 18:
            return
    found = {history.form.draft.prompt}
    while history.back():
        found.add(history.form.draft.prompt)
    while history.forward():
        found.add(history.form.draft.prompt)
    assert wanted <= found
