"""Comparisons with the real demo model: what is asked, what comes of it, what is refused.

About 25 s.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.tiny_model import write_tiny_model

import gguf_widgets as gw
from gguf_widgets.batch.files import write
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.making import compare, comparisons, prepare
from gguf_widgets.compare.sides import Side
from gguf_widgets.compare.types import ComparisonStatus, SideStatus
from gguf_widgets.core.errors import BatchError, InvalidValueError, RowError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of, wait_for

REVIEWS = [
    ("The room was clean and the breakfast was wonderful.", "positive"),
    ("The room was dirty and the breakfast was horrible.", "negative"),
    ("The food was great.", "positive"),
    ("The service was terrible.", "negative"),
    ("It was awful, I want my money back.", "negative"),
    ("A lovely place, we will come again.", "positive"),
]
TABLE = pd.DataFrame(REVIEWS, columns=["review", "truth"], index=list("fedcba"))
TEMPLATE = "Is this review positive, negative or neutral? {review}"
# Draws from all tokens alike: such a side is worse for sure.
WILD = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Comparison, Store]]:
    """One comparison for the tests that only look: three sides, one of which cannot be loaded."""
    folder = tmp_path_factory.mktemp("shared")
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0 and nothing that makes sense" * 20)
    with pytest.MonkeyPatch.context() as patch, Store(folder / "store.sqlite") as store:
        patch.setenv("GGUF_WIDGETS_HOME", str(folder))
        manager = ModelManager(keep_alive=0.5)
        made = compare(
            ["demo", Side("demo", label="wild", sampling=WILD), broken],
            TABLE,
            template=TEMPLATE,
            references="truth",
            scores=["exact", "words", "time", gw.compare.Judge("demo")],
            max_tokens=12,
            title="reviews",
            store=store,
            manager=manager,
        )
        yield made, store
        manager.close()
        wait_for(lambda: not processes_of(folder, "gguf_widgets.core.worker"), "the workers' end")


def test_a_side_that_cannot_be_loaded_is_told_and_the_others_go_on(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    assert made.status is ComparisonStatus.FINISHED
    assert made.labels == ["demo", "wild", "broken"]
    assert [side.status for side in made.sides] == [
        SideStatus.DONE,
        SideStatus.DONE,
        SideStatus.FAILED,
    ]
    assert made.sides[2].error
    assert any("“broken” cannot answer, and the others go on" in note for note in made.notes)
    assert made.progress.num_done == made.progress.num_total == 12
    assert made.progress.fraction == 1.0
    assert made.progress.left_s is None
    assert made.error is None


def test_the_table_has_a_row_a_prompt_in_the_persons_order_with_everything_of_each_side(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    frame = made.to_frame()
    assert list(frame.index) == list("fedcba")
    assert list(frame["review"]) == [review for review, _ in REVIEWS]
    right = frame["demo.answer"].str.strip() == frame["truth"]
    assert (frame["demo.exact"] == right.astype(float)).all()
    assert frame["demo.exact"].dtype == "Float64"
    assert frame["demo.tokens"].dtype == "Int64"
    assert frame["broken.answer"].isna().all()
    assert (frame["demo.finish_reason"] == "stop").all()


def test_the_summary_has_a_row_a_side_with_intervals_speed_and_memory(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    frame = made.summary()
    assert list(frame.index) == ["demo", "wild", "broken"]
    row = frame.loc["demo"]
    assert row["exact.low"] <= row["exact"] <= row["exact.high"]
    assert row["tok_per_s"] > 0
    assert row["memory_bytes"] > 10_000_000
    assert row["file_bytes"] == Path(str(made.sides[0].path)).stat().st_size
    assert row["done"] == 6
    assert pd.isna(frame.loc["broken", "exact"])
    assert "broken" in made._repr_html_()
    assert "demo" in str(made)


def test_a_difference_is_taken_prompt_by_prompt_and_says_so_in_words(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    found = made.difference("demo", "wild")
    other = made.difference(1, 0, "exact")
    assert found.score == "exact"
    assert found.mean == pytest.approx(-other.mean)  # type: ignore[operator]
    assert (found.num_a, found.num_b) == (other.num_b, other.num_a)
    frame = made.to_frame()
    assert found.mean == pytest.approx((frame["demo.exact"] - frame["wild.exact"]).mean())
    assert found.num_pairs == 6
    assert "6 prompts" in found.words
    nothing = made.difference("demo", "broken")
    assert (nothing.mean, nothing.low, nothing.num_pairs, nothing.clear) == (None, None, 0, False)
    assert nothing.num_left_out == 6
    assert "nothing to compare" in nothing.words
    assert len(made.differences()) == 3 * 4
    with pytest.raises(InvalidValueError, match="no side 'nobody'"):
        made.difference("demo", "nobody")
    with pytest.raises(InvalidValueError, match="does not differ from itself"):
        made.difference(0, "demo")
    with pytest.raises(InvalidValueError, match=r"no score called 'exakt'; it has \"exact\""):
        made.difference(0, 1, "exakt")


def test_the_judges_scores_add_up_and_its_run_is_kept(shared: tuple[Comparison, Store]) -> None:
    made, _ = shared
    for row in made.rows():
        first, second = (row.answers[side].scores["judge"] for side in (0, 1))
        assert first + second == 1.0  # type: ignore[operator]
        assert "judge" not in row.answers[2].scores
    found = made.difference(0, 1, "judge")
    assert found.num_pairs == 6
    assert found.mean_a + found.mean_b == pytest.approx(1.0)  # type: ignore[operator]
    assert len(made.definition.judge_runs["judge"]) == 1
    assert any("in both orders" in note for note in made.notes)


def test_each_sides_answers_are_a_batch_run_and_the_references_are_not_in_it(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    run = made.run("demo")
    assert run is not None
    assert run.title == "reviews: demo"
    frame = run.to_frame()
    assert "truth" not in frame.columns
    assert list(frame["reply"]) == [row.answers[0].text for row in made.rows()]
    assert made.run(2) is None
    assert made.messages(0, "wild") == [
        {"role": "user", "content": TEMPLATE.format(review=REVIEWS[0][0])}
    ]


def test_a_window_of_rows_is_that_stretch_and_a_vote_changes_what_there_is_to_show(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    whole = made.rows()
    assert [row.number for row in whole] == list(range(6))
    assert made.rows(2, 4) == whole[2:4]
    assert made.rows(5, 99) == whole[5:]
    assert made.rows(6) == []
    assert made.raw_prompts()[1][1] == "negative"
    before = made.changes()
    made.vote(0, 0, 1, "a")
    assert made.changes() > before
    made.vote(0, 0, 1, None)


def test_it_is_found_again_and_one_of_long_ago_is_as_it_was(
    shared: tuple[Comparison, Store],
) -> None:
    made, store = shared
    (found,) = comparisons(store=store)
    assert found.id == made.id
    assert "reviews" in repr(comparisons(store=store))
    again = Comparison.open(made.id[:6], store=store)
    assert again.rows() == made.rows()
    assert again.differences() == made.differences()
    assert again.status is ComparisonStatus.FINISHED
    with pytest.raises(InvalidValueError, match="no comparison"):
        Comparison.open("ffff0000", store=store)
    with pytest.raises(InvalidValueError, match="no comparison"):
        Comparison.open("%", store=store)


def test_two_answers_part_where_their_models_thought_otherwise(
    shared: tuple[Comparison, Store],
) -> None:
    made, _ = shared
    number = next(row.number for row in made.rows() if row.answers[0].text != row.answers[1].text)
    found = made.divergence(number, "demo", "wild")
    assert found.split is not None
    assert found.split.by == "tokens"
    assert (found.name_a, found.name_b) == ("demo", "wild")
    assert found.split.a.probability is not None
    assert found.split.b.other_probability is not None
    assert found.a.text == made.rows()[number].answers[0].text, "the kept answers, not new ones"
    assert found.b.text == made.rows()[number].answers[1].text
    with pytest.raises(InvalidValueError, match="top is 0"):
        made.divergence(number, 0, 1, top=0)
    with pytest.raises(InvalidValueError, match="“broken” has no answer"):
        made.divergence(0, 0, 2)
    with pytest.raises(InvalidValueError, match="no prompt 6"):
        made.divergence(6, 0, 1)


# -- other ways to ask -----------------------------------------------------------------------------


def test_a_single_prompt_without_references_is_a_comparison_that_cannot_tell(
    store: Store, manager: ModelManager
) -> None:
    made = compare(
        ["demo", Side("demo", sampling={"temperature": 1.0})],
        "Tell me a story about Emma.",
        max_tokens=20,
        store=store,
        manager=manager,
    )
    assert made.labels == ["demo", "demo, temperature 1.0"]
    assert made.score_names == ["length"]
    assert not made.has_references
    found = made.difference(0, 1)
    assert (found.num_pairs, found.low, found.clear, found.better) == (1, None, False, None)
    assert found.words.startswith("Not enough data to tell from one prompt")
    assert "reference" not in made.to_frame().columns


def test_prompts_are_compared_as_models_are(store: Store, manager: ModelManager) -> None:
    model = manager.load("demo")
    made = compare(
        [
            Side(model, label="question", template="What is the capital of {country}?"),
            Side(model, label="story", template="Tell me a story about Emma."),
        ],
        {"country": ["France", "Italy"], "status": ["x", "y"]},
        references=["Paris", ["Rome", "Roma"]],
        scores=gw.compare.ExactMatch(within=True),
        max_tokens=16,
        store=store,
        manager=manager,
    )
    assert model.loaded, "a model that somebody holds is left as it is"
    assert [row.answers[0].scores["exact"] for row in made.rows()] == [1.0, 1.0]
    assert [row.answers[1].scores["exact"] for row in made.rows()] == [0.0, 0.0]
    assert made.rows()[0].prompt == "What is the capital of France?"
    found = made.divergence(0, 0, 1)
    assert found.split is not None
    assert found.split.by == "tokens"
    assert found.split.a.probability is not None
    assert found.split.a.other_probability is None, "it was asked something else"


def test_sides_with_different_vocabularies_answer_and_part_as_texts(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf")
    made = compare(
        ["demo", other], ["Hello", "What is the capital of France?"], max_tokens=8, store=store,
        manager=manager,
    )  # fmt: skip
    assert [side.counts.done for side in made.sides if side.counts] == [2, 2]
    assert made.sides[1].label == "other"
    found = made.divergence(1, 0, 1)
    assert found.split is not None
    assert found.split.by == "text"
    assert found.split.a.probability is not None


def test_a_schema_holds_for_all_sides_and_fields_are_scored(
    store: Store, manager: ModelManager
) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "quantity": {"type": "integer"}},
        "required": ["name", "quantity"],
        "additionalProperties": False,
    }
    made = compare(
        ["demo", Side("demo", sampling={"temperature": 0.5, "seed": 1})],
        ['Read this order as JSON: "Emma orders three lamps to Paris."'],
        references=[{"name": "Emma", "quantity": 3}],
        scores="json",
        schema=schema,
        max_tokens=60,
        store=store,
        manager=manager,
    )
    answer = made.rows()[0].answers[0]
    assert answer.status == "done", answer.error
    assert set(answer.why["json"]["fields"]) == {"name", "quantity"}
    assert answer.scores["json"] is not None


def test_scores_are_added_later_and_references_put_in_place(
    store: Store, manager: ModelManager
) -> None:
    asked: list[str] = []

    def mine(answer: str, reference: Any, row: dict[str, Any]) -> bool:
        asked.append(answer)
        return reference in answer and row["prompt"].startswith("What")

    made = compare(
        ["demo", Side("demo", sampling=WILD)],
        ["What is the capital of France?", "What is the capital of Italy?"],
        max_tokens=20,
        store=store,
        manager=manager,
    )
    with pytest.raises(InvalidValueError, match="needs to know what is right"):
        made.add_scores("exact")
    with pytest.raises(InvalidValueError, match="2 prompts and 1 references"):
        made.add_scores("exact", references=["Paris"])
    with pytest.raises(InvalidValueError, match='a score called "length" already'):
        made.add_scores("length")
    made.add_scores([mine, gw.compare.ExactMatch(within=True)], references=["Paris", "Rome"])
    assert made.score_names == ["length", "mine", "exact"]
    assert [row.answers[0].scores["mine"] for row in made.rows()] == [1.0, 1.0]
    assert len(asked) == 4
    # From another session the function is not known; what it said is.
    again = Comparison.open(made.id, store=store, manager=manager)
    assert again.difference(0, 1, "mine") == made.difference(0, 1, "mine")
    again.start().wait()
    assert len(asked) == 4, "what has a score is not scored again"


def test_a_files_rows_are_asked_and_a_jinja_template_is_understood(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.csv"
    write(path, [{"country": "France", "answer": "Paris"}, {"country": "Italy", "answer": "Rome"}])
    made = prepare(
        ["demo", "demo"],
        path,
        template="What is the capital of {{ country }}?{% if false %}{% endif %}",
        references="answer",
        store=store,
        manager=manager,
    )
    assert made.labels == ["demo", "demo (2)"]
    assert made.status is ComparisonStatus.READY
    assert made.rows()[1].prompt == "What is the capital of Italy?"
    with pytest.raises(InvalidValueError, match=r"give pathlib\.Path"):
        prepare(["demo", "demo"], str(path), store=store, manager=manager)


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        (("demo", ["x"]), {}, "a list of 2 to 4 models"),
        ((["demo"], ["x"]), {}, "has 2 to 4 sides, and 1 was given"),
        ((["demo"] * 5, ["x"]), {}, "and 5 were given"),
        ((["demo", 3], ["x"]), {}, "Side 2 is a int"),
        ((["demo", Side("demo", load={"n_ctxx": 1})], ["x"]), {}, "Side 2: .*'n_ctx'"),
        ((["demo", Side("demo", sampling={"temperature": 9})], ["x"]), {}, "Side 2: temperature"),
        ((["demo", Side("demo", sampling={"schema": {}})], ["x"]), {}, "schema= of the comparison"),
        ((["demo", Side("demo", template="{nope}")], ["x"]), {}, "not in the table"),
        ((["demo", "demo"], ["x"]), {"temprature": 1}, "Did you mean 'temperature'"),
        (([Side("demo", label="a"), Side("demo", label="a")], ["x"]), {}, 'called "a"'),
        ((["demo", "demo"], []), {}, "empty"),
        ((["demo", "demo"], ["x", None]), {}, "no value|list of"),
        ((["demo", "demo"], {"a": ["x"], "b": ["y"]}), {}, '"prompt"'),
        ((["demo", "demo"], ["x"]), {"references": ["a", "b"]}, "1 prompts and 2 references"),
        ((["demo", "demo"], ["x"]), {"references": "nope"}, "the name of no column"),
        ((["demo", "demo"], ["x"]), {"references": [None]}, "All references are missing"),
        ((["demo", "demo"], ["x"]), {"references": 3}, "list with one for each prompt"),
        ((["demo", "demo"], ["x"]), {"references": [object()]}, "cannot be kept"),
        ((["demo", "demo"], ["x"]), {"scores": "exact"}, "needs to know what is right"),
        ((["demo", "demo"], ["x"]), {"stop_early": True}, "score that has bounds"),
        ((["demo", "demo"], ["x"]), {"stop_early": "length"}, "score that has bounds"),
        ((["demo", "demo"], ["x"]), {"order": "sideways"}, "order='sideways'"),
        ((["demo", "demo"], {"reply": ["x"]}), {"template": "{reply}"}, 'column called "reply"'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    arguments: tuple[Any, ...], keywords: dict[str, Any], words: str, store: Store, home: Path
) -> None:
    with pytest.raises((InvalidValueError, RowError), match=words):
        prepare(*arguments, store=store, **keywords)
    assert comparisons(store=store) == []
    assert not processes_of(home, "gguf_widgets.core.worker")


def test_where_no_side_can_answer_the_comparison_says_why(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    made = prepare(["no-such-one", tmp_path / "gone.gguf"], ["x"], store=store, manager=manager)
    with pytest.raises(BatchError, match=r"No side can answer.*no-such-one.*gone"):
        made.start().wait()
    assert made.status is ComparisonStatus.FAILED
    assert "No side can answer" in (made.error or "")
    assert made.rows()[0].answers[0].status == "waiting"


def test_the_module_is_what_is_called_whatever_was_imported_first() -> None:
    script = (
        "import gguf_widgets.compare.types, gguf_widgets as gw, inspect\n"
        "from gguf_widgets import compare\n"
        "assert compare is gw.compare and gw.compare.Side\n"
        "names = list(inspect.signature(gw.compare).parameters)\n"
        "assert names[:3] == ['sides', 'prompts', 'template'], names\n"
        "try: gw.compare(['demo'], ['x'])\n"
        "except gw.errors.InvalidValueError: print('called')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "called\n"


def test_labels_are_told_apart_by_what_differs() -> None:
    from gguf_widgets.compare.sides import Common, sides_of

    common = Common("{prompt}", None, None, {}, reproducible=False)
    records, _ = sides_of(
        [
            Side("m", sampling={"top_k": 1}),
            Side("m", sampling={"top_k": 9}),
            Side("m", system="Be kind."),
            Side("m", label="<b>mine</b>\n"),
        ],
        common,
    )
    labels = [one.label for one in records]
    assert labels[:2] == ["m, top_k 1", "m, top_k 9"]
    assert "Be kind." in labels[2]
    assert labels[3] == "<b>mine</b>"
    assert all(a != b for a, b in itertools.combinations(labels, 2))


def test_demo_mode_compares_too_and_parts_as_text(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
    made = compare(
        ["demo", Side("demo", label="other", template="Tell me a story. {prompt}")],
        ["Hello"],
        store=store,
        manager=manager,
    )
    found = made.divergence(0, 0, 1)
    assert found.a.text == made.rows()[0].answers[0].text
    assert found.split is None or found.split.by == "text"
    assert made.sides[0].status is SideStatus.DONE
