"""`BatchTable` with a page that is played, the real demo model, and a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.batch_page import LABELS, PROMPT, REVIEWS, Page, reviews

from gguf_widgets.batch import files
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.spec import Spec
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_answer import Answer, AnswerColumn
from gguf_widgets.widgets._batch_code import code_of
from gguf_widgets.widgets._batch_draft import Draft, draft_of_spec, judge
from gguf_widgets.widgets._batch_result import edited_values
from gguf_widgets.widgets._batch_source import MAX_FILE_BYTES, Arriving, given_table
from gguf_widgets.widgets.batch_table import BatchTable

Open = Callable[..., Page]


# -- setting up ------------------------------------------------------------------------------------


def test_a_mistake_is_told_while_typing_and_the_real_prompt_is_shown(
    open_batch: Open, model: Model
) -> None:
    page = open_batch(model, reviews())
    page.draft(prompt="Label {reviw}")
    state = page.until(lambda state: "prompt" in state["judged"]["faults"])
    assert '"reviw"' in state["judged"]["faults"]["prompt"]
    assert state["judged"]["fixes"] == [{"wrong": "reviw", "right": "review"}]
    assert state["preview"]["messages"] == []

    page.draft(prompt="Label {review}", system="You know {stars}.")
    page.tell("row", row=1)
    state = page.until(lambda state: state["preview"]["row"] == 1 and state["preview"]["tokens"])
    shown = [(one["role"], one["text"]) for one in state["preview"]["messages"]]
    assert shown == [("system", "You know 1."), ("user", "Label I hated the soup.")]
    messages = [{"role": role, "content": text} for role, text in shown]
    page.until(lambda state: state["preview"]["tokens"] == model.count_tokens(messages))
    assert state["judged"]["faults"] == {}

    # The fault of the system message stands there, and not under the prompt.
    page.draft(prompt="Label {review}", system="You know {star}.")
    state = page.until(lambda state: "system" in state["judged"]["faults"])
    assert "prompt" not in state["judged"]["faults"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "Write what the model is to do"),
        ({"prompt": "{review"}, "prompt", "never closed"),
        ({"answer": Answer("choice", ["one"])}, "answer", "at least two choices"),
        ({"answer": Answer("number", low="5", high="1")}, "answer", "above the highest"),
        ({"answer": Answer("number", low="1.5")}, "answer", "not a whole number"),
        ({"answer": Answer("number", low="many")}, "answer", "not a number"),
        ({"answer": Answer("columns", columns=[AnswerColumn()])}, "answer", "has no name"),
        ({"answer": Answer("schema", schema="{")}, "answer", "line 1"),
        ({"answer": Answer("columns", columns=[AnswerColumn("review")])}, "table", '"review"'),
        ({"n": "0"}, "n", "from 1 to 256"),
        ({"n": "3"}, "temperature", "all answers to a row are the same"),
        ({"max_tokens": "-1"}, "maxTokens", "from 1"),
        ({"temperature": "hot"}, "temperature", '"hot"'),
        ({"missing": "with"}, "missing", "stands in for a missing value"),
    ],
)
def test_each_fault_of_the_form_is_told_at_its_field(
    changes: dict[str, Any], field: str, words: str
) -> None:
    draft = Draft(**{"prompt": "Label {review}", **changes})
    faults = judge(draft, ["review", "stars"]).faults
    assert list(faults) == [field]
    assert words in faults[field]


def test_a_form_that_is_no_form_is_refused(open_batch: Open, model: Model) -> None:
    page = open_batch(model, reviews())
    for draft in ({"prompt": 3}, {"answer": {"kind": "magic"}}, "text", {"n": "1" * 5000}):
        assert "cannot be read" in page.ask("draft", draft=draft)["error"]["message"]


def test_a_run_from_the_form_to_the_result(open_batch: Open, model: Model, store: Store) -> None:
    page = open_batch(model, reviews(24))
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS))
    assert "error" not in page.ask("check")
    checked = page.until(lambda state: state["check"])["check"]
    assert checked["lines"][0].startswith("24 rows")
    assert BatchRuns(store).recent()[0].status is RunStatus.READY

    seen: list[Any] = []
    page.widget.observe(lambda change: seen.append(change.new), "run")
    state = page.run_to_end()
    (record,) = BatchRuns(store).recent()  # the one that was checked, not another
    assert seen == [page.widget.run]
    assert state["run"]["id"] == record.id
    assert state["progress"]["done"] == 24

    frame = page.widget.run.to_frame()  # type: ignore[union-attr]
    found = page.rows()
    assert found["total"] == 24
    assert [row["outputs"]["reply"] for row in found["rows"]] == list(frame["reply"])
    counts = frame["reply"].value_counts()
    label = frame["reply"].iloc[0]
    chosen = page.rows(where={"reply": label})
    assert chosen["total"] == counts[label]
    surest = page.rows(sort="certainty", descending=True)["rows"]
    assert [row["certainty"] for row in surest] == sorted(frame["certainty"], reverse=True)

    whole = page.ask("whole", number=0)["whole"]
    assert whole["messages"] == [{"role": "user", "content": f"{PROMPT[:-8]}{REVIEWS[0]}"}]
    assert {name for name, _ in whole["probabilities"]} == set(LABELS)
    assert sum(value for _, value in whole["probabilities"]) == pytest.approx(1, abs=0.01)


def test_a_check_of_what_was_changed_since_leaves_nothing_behind(
    open_batch: Open, model: Model, store: Store
) -> None:
    page = open_batch(model, reviews(24))
    page.draft(prompt=PROMPT, answer=page.answer(kind="yesno"))
    page.ask("check")
    page.until(lambda state: state["check"] and not state["busy"])
    page.draft(prompt="Good? {review}")
    assert page.until(lambda state: state["check"]["isOld"])
    page.run_to_end()
    (record,) = BatchRuns(store).recent()
    assert record.spec["prompts"][0]["template"]["messages"][-1]["content"] == "Good? {review}"
    page.ask("open", id=None)
    page.ask("check")
    page.until(lambda state: state["check"] and not state["busy"])
    page.widget.close()
    assert [one.id for one in BatchRuns(store).recent()] == [record.id]


def test_without_a_model_or_a_table_start_says_what_is_missing(open_batch: Open) -> None:
    page = open_batch()
    assert "gw.load" in page.state["model"]["reason"]
    page.ask("start")
    assert "Choose a model first" in page.until(lambda s: s["check"])["check"]["error"]
    with pytest.raises(InvalidValueError, match="Choose a model first"):
        page.widget.start()


# -- tables ----------------------------------------------------------------------------------------


def send(page: Page, name: str, data: bytes) -> dict[str, Any]:
    key = page.ask("table-begin", name=name, size=len(data))["key"]
    offset = 0
    while offset < len(data):
        piece = memoryview(data)[offset : offset + (1 << 20)]
        offset = page.ask("table-piece", [piece], key=key, offset=offset)["offset"]

    def is_read(state: dict[str, Any]) -> bool:
        looked = state["table"]["looked"]
        return not state["busy"] and looked and looked["name"] in name

    return page.until(is_read)


def test_a_file_of_the_page_arrives_in_pieces_and_is_read(open_batch: Open) -> None:
    lines = ["review;stars", *(f"Review number {i};{i % 5}" for i in range(80_000))]
    data = "\n".join(lines).encode("utf-16")
    assert len(data) > 2 << 20
    page = open_batch()
    state = send(page, "C:\\tables\\reviews.csv", data)
    assert state["table"]["given"]["name"] == "reviews.csv"
    assert state["table"]["given"]["numRows"] == 80_000
    assert "parted by semicolon" in state["table"]["given"]["words"]
    assert page.widget.table["stars"].sum() == sum(i % 5 for i in range(80_000))


def test_a_faulty_file_is_shown_with_what_mends_it(open_batch: Open) -> None:
    page = open_batch()
    state = send(page, "bad.csv", b"a,b\n1,2\n3\n4,5\n")
    assert state["table"]["given"] is None
    looked = state["table"]["looked"]
    assert "3" in looked["problems"][0]  # the line
    assert looked["mends"] == [{"name": "ragged", "value": "refuse"}]
    page.ask("table-read", options={"ragged": "skip"})
    state = page.until(lambda state: state["table"]["given"])
    assert state["table"]["given"]["numRows"] == 2
    assert state["table"]["looked"]["notes"]
    refused = page.ask("table-read", options={"path": "/etc/passwd"})["error"]["message"]
    assert "cannot be read" in refused


def settings_of(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in state["table"]["looked"]["settings"]}


def test_how_a_file_is_read_is_shown_and_can_be_changed(open_batch: Open) -> None:
    page = open_batch()
    text = "Größe;Café\nklein;ja\ngroß;nein\n"
    state = send(page, "sizes.csv", text.encode("cp1252"))
    settings = settings_of(state)
    assert list(settings) == ["header", "delimiter", "encoding"]
    found = {name: one["choices"][0][1] for name, one in settings.items()}
    assert found["delimiter"] == "Found: semicolon"
    assert found["encoding"] == "Found: cp1252"
    assert found["header"].startswith("Found: it")
    before = state["table"]["given"]
    page.draft(prompt="Label {Größe}")

    def read(**options: str) -> dict[str, Any]:
        reads = page.state["table"]["looked"]["reads"]
        assert "error" not in page.ask("table-read", options=options)
        return page.until(lambda state: state["table"]["looked"]["reads"] > reads)

    state = read(header="no")
    assert state["table"]["given"]["columns"] == ["column_1", "column_2"]
    assert state["table"]["given"]["first"][0] == ["Größe", "Café"]
    assert settings_of(state)["header"]["value"] == "no"
    assert settings_of(state)["header"]["choices"][0][1].startswith("Found: it")
    # The prompt's column is not there any more, which is told; the prompt stays.
    page.until(lambda state: "prompt" in state["judged"]["faults"])

    # What cannot be is told, and the table stays as it was.
    state = read(encoding="utf-8")
    assert "utf-8" in state["table"]["looked"]["refused"]
    assert state["table"]["looked"]["refused"].endswith("It is read as before.")
    assert state["table"]["given"]["columns"] == ["column_1", "column_2"]
    assert settings_of(state)["encoding"]["value"] == ""

    state = read(delimiter="lines")
    assert state["table"]["given"]["columns"] == ["text"]
    state = read(delimiter=",")
    assert state["table"]["given"]["numRows"] in (2, 3)
    state = read(delimiter="", header="")
    assert state["table"]["given"] == before
    page.until(lambda state: not state["judged"]["faults"].keys() & {"prompt"})
    for options in ({"encoding": 3}, {"header": "maybe"}, {"quote": "'"}, ["header"]):
        assert "cannot be read" in str(page.ask("table-read", options=options)) or "by name" in str(
            page.ask("table-read", options=options)
        )


def test_a_file_whose_encoding_is_not_found_can_be_told_it(open_batch: Open) -> None:
    page = open_batch()
    state = send(page, "odd.csv", bytes(range(1, 32)) * 20)
    looked = state["table"]["looked"]
    assert "control characters" in looked["error"]
    assert "encoding" in settings_of(state)


def test_pasted_cells_become_a_table_and_a_wrong_file_says_what_it_is(open_batch: Open) -> None:
    page = open_batch()
    page.ask("table-paste", text="name\tage\nAnn\t31\nBo\t\n")
    state = page.until(lambda state: state["table"]["given"])
    assert state["table"]["given"]["first"] == [["Ann", "31"], ["Bo", None]]
    state = send(page, "old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert state["table"]["given"] is None
    assert "old Excel file" in state["table"]["looked"]["error"]


def test_pieces_that_do_not_fit_are_refused(open_batch: Open) -> None:
    with pytest.raises(InvalidValueError, match="give its path"):
        Arriving("big.csv", MAX_FILE_BYTES + 1)
    page = open_batch()
    assert "empty" in page.ask("table-begin", name="x.csv", size=0)["error"]["message"]
    key = page.ask("table-begin", name="x.csv", size=10)["key"]
    assert "lost" in page.ask("table-piece", [b"12345"], key=key, offset=3)["error"]["message"]
    key = page.ask("table-begin", name="x.csv", size=10)["key"]
    wrong = page.ask("table-piece", [b"1" * 11], key=key, offset=0)
    assert "changed" in wrong["error"]["message"]
    assert "not expected" in page.ask("table-piece", [b"1"], key=key, offset=0)["error"]["message"]


def test_tables_of_every_kind_and_refusals_in_python(tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    kinds: list[Any] = [
        ["one", "two"],
        {"text": ["one", "two"]},
        [{"text": "one"}, {"text": "two"}],
    ]
    kinds += [pd.Series(["one", "two"]), path, str(path), files.read(path)]
    for table in kinds:
        given = given_table(table)
        assert given.columns == ["text"]
        assert given.row(1) == {"text": "two"}
    with pytest.raises(InvalidValueError, match="empty"):
        BatchTable(table=[])
    with pytest.raises(InvalidValueError, match=r"gguf_widgets\.load"):
        BatchTable("demo")  # type: ignore[arg-type]


# -- a run -----------------------------------------------------------------------------------------


def test_pause_go_on_stop_and_go_on_again(open_batch: Open, model: Model) -> None:
    page = open_batch(model, [f"Tell me story number {i}" for i in range(60)])
    page.draft(prompt="{text}", maxTokens="60")
    page.ask("start")
    page.until(lambda state: state["run"] and state["progress"]["done"] >= 2)
    assert "error" not in page.ask("pause")
    page.until(lambda state: state["run"]["status"] == "paused")
    assert "error" not in page.ask("go-on")
    page.until(lambda state: state["run"]["status"] == "running")
    again = page.ask("ask-again", number=0)["error"]["message"]
    assert "Wait for the end" in again
    page.ask("stop")
    stopped = page.until(lambda state: state["run"]["status"] == "stopped")
    assert stopped["progress"]["waiting"] > 0
    before = stopped["progress"]["done"]
    page.ask("go-on")
    state = page.until(lambda state: state["run"]["status"] == "finished")
    assert state["progress"]["done"] == 60 > before


def test_failed_rows_are_found_explained_and_asked_again(open_batch: Open, model: Model) -> None:
    table = reviews(8)
    table.loc[3, "review"] = "word " * 3000
    page = open_batch(model, table)
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS))
    state = page.run_to_end()
    assert state["progress"]["failed"] == 1
    (failed,) = page.rows(status="failed")["rows"]
    assert failed["row"] == 3
    whole = page.ask("whole", number=failed["number"])["whole"]
    assert "context" in whole["error"]
    version = page.state["version"]
    page.ask("retry")
    page.until(
        lambda state: (
            state["version"] > version + 1
            and state["run"]["status"] == "finished"
            and state["progress"]["failed"] == 1
        )
    )
    assert page.rows(status="failed")["total"] == 1
    assert page.rows(status="done")["total"] == 7


def test_an_edit_is_kept_beside_what_the_model_gave(open_batch: Open, model: Model) -> None:
    page = open_batch(model, reviews())
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS))
    page.run_to_end()
    given = page.ask("whole", number=1)["whole"]["read"]["reply"]
    other = next(one for one in LABELS if one != given)
    whole = page.ask("edit", number=1, values={"reply": other})["whole"]
    assert (whole["edit"]["reply"], whole["read"]["reply"]) == (other, given)
    assert page.rows()["rows"][1]["edited"]
    run = page.widget.run
    assert run is not None
    assert run.to_frame()["reply"].iloc[1] == other
    wrong = page.ask("edit", number=1, values={"reply": "maybe"})["error"]["message"]
    assert '"maybe" is not one of: positive, negative, neutral' in wrong
    assert page.ask("edit", number=1, values=None)["whole"]["edit"] is None
    assert run.to_frame()["reply"].iloc[1] == given


def test_what_is_typed_becomes_a_value_of_the_columns_kind() -> None:
    schema = {
        "type": "object",
        "properties": {
            "count": {"type": "integer"},
            "share": {"type": "number"},
            "is_new": {"type": "boolean"},
            "day": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["count", "share", "is_new", "day", "tags"],
        "additionalProperties": False,
    }
    output = Output.parse(schema)
    typed = {"count": "3", "share": "0.5", "is_new": "Yes", "day": "2026-03-31", "tags": '["a"]'}
    assert edited_values(output, typed) == {
        "count": 3,
        "share": 0.5,
        "is_new": True,
        "day": "2026-03-31",
        "tags": ["a"],
    }
    assert edited_values(output, {"count": " "}) == {"count": None}
    for name, text in (("count", "3.5"), ("is_new", "perhaps"), ("day", "soon"), ("tags", "[")):
        with pytest.raises(InvalidValueError, match="is not"):
            edited_values(output, {name: text})


def test_a_second_page_and_a_new_widget_show_the_same_run(
    open_batch: Open, model: Model, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_batch(model, reviews())
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS), title="Labels")
    page.run_to_end()
    before, page = page, Page(page.widget, monkeypatch)
    for part in ("run", "draft", "progress", "table", "version"):
        assert page.state[part] == before.state[part], part

    run_id = page.state["run"]["id"]
    other = open_batch()
    listed = other.until(lambda state: state["earlier"]["runs"])["earlier"]["runs"]
    assert [(one["id"], one["title"], one["done"], one["total"]) for one in listed] == [
        (run_id, "Labels", 4, 4)
    ]
    other.ask("open", id=run_id)
    other.until(lambda state: state["run"])
    assert other.rows()["rows"] == page.rows()["rows"]
    # Its form and its table come back, to be changed and run again.
    other.ask("set-up")
    state = other.until(lambda state: state["table"]["given"] and state["run"] is None)
    assert state["draft"]["draft"]["prompt"] == PROMPT
    assert state["draft"]["draft"]["answer"]["choices"] == LABELS
    assert other.widget.table["review"].tolist() == REVIEWS
    direct = open_batch(run=run_id[:12])
    assert direct.state["run"]["id"] == run_id


def test_what_a_page_asks_wrongly_is_answered_in_words(open_batch: Open, model: Model) -> None:
    page = open_batch(model, reviews())
    assert "No run is open" in page.rows()["error"]["message"]
    page.draft(prompt=PROMPT)
    page.run_to_end()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("rows", {"query": {"sort": "; DROP TABLE batch_row"}, "start": 0, "stop": 9}),
        ("rows", {"query": {"status": "magic"}, "start": 0, "stop": 9}),
        ("rows", {"query": {"where": {"nothing": 1}}, "start": 0, "stop": 9}),
        ("rows", {"query": {"words": "x" * 1000}, "start": 0, "stop": 9}),
        ("rows", {"query": {}, "start": -1, "stop": "all"}),
        ("whole", {"number": 99}),
        ("whole", {"number": "one"}),
        ("edit", {"number": 0, "values": {"nothing": "x"}}),
        ("open", {"id": "../../etc"}),
        ("open", {"id": "0" * 32}),
        ("download-piece", {"key": "", "offset": 0}),
    ]
    for kind, content in wrong:
        assert page.ask(kind, **content)["error"]["message"], kind
    assert len(page.rows(0, 10**9)["rows"]) == 4
    assert "cannot be saved" in page.ask("download", format="exe")["error"]["message"]


# -- files and code --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "xlsx", "parquet"])
def test_the_downloaded_file_is_the_result(
    open_batch: Open, model: Model, tmp_path: Path, ending: str
) -> None:
    page = open_batch(model, reviews())
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS), title='A "b"/c')
    page.run_to_end()
    file = page.ask("download", format=ending)["file"]
    assert file["name"] == f"A b c.{ending}"
    data = b""
    while len(data) < file["size"]:
        answer = page.ask("download-piece", key=file["key"], offset=len(data))
        data += answer["buffers"][0]
    path = tmp_path / file["name"]
    path.write_bytes(data)
    frame = page.widget.run.to_frame()  # type: ignore[union-attr]
    read = files.read(path).to_frame()
    assert read["reply"].tolist() == frame["reply"].astype(str).tolist()
    assert read["review"].tolist() == REVIEWS


def test_a_file_that_is_too_large_for_a_page_is_kept_and_its_path_told(
    open_batch: Open, model: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf_widgets.widgets._batch_send.MAX_SENT_BYTES", 100)
    page = open_batch(model, reviews())
    page.draft(prompt=PROMPT)
    page.run_to_end()
    file = page.ask("download", format="csv")["file"]
    path = Path(file["path"])
    assert path.is_relative_to(home)
    assert "key" not in file
    assert files.read(path).num_rows == 4


def repeated(code: str, model: Model, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Carry the cell out, with the run only made, and return it."""
    import gguf_widgets

    made: list[Any] = []

    def only_make(_self: Any, table: Any, prompt: Any, **how: Any) -> Any:
        run = BatchProcessor(model).prepare(table, prompt, **how)
        made.append(run)
        return run

    monkeypatch.setattr(gguf_widgets, "load", lambda _name, **_settings: model)
    monkeypatch.setattr(Model, "map", only_make)
    exec(compile(code, "cell", "exec"), {"df": frame})  # noqa: S102 - it is our own
    return made[0]


@pytest.mark.parametrize(
    "how",
    [
        {"schema": LABELS},
        {"schema": bool, "system": "Be short.\nBe kind.", "missing": "skip", "max_tokens": 7},
        {"schema": (1, 5), "temperature": 0.7, "n": 3, "seed": 4},
        {"schema": range(0, 100, 5)},
        {"schema": (None, 0.5), "missing": {"with": "unknown"}},
        {"schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
        {"schema": {"pattern": r"[A-Z]{2}\d+"}, "stop": ["\n"]},
        {"syntax": "format", "logprobs": 2},
        {},
    ],
)
def test_the_copied_code_makes_the_same_run(
    model: Model, store: Store, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    prompt = 'Read this: "{review}"\nand {{"keep": 1}} in mind, {stars}'
    frame = reviews()
    run = BatchProcessor(model, store=store).prepare(frame, prompt, **how)
    code = code_of(run.spec, ["review", "stars"])
    again = repeated(code, model, frame, monkeypatch)
    mine, other = run.spec.to_dict(), again.spec.to_dict()
    mine.pop("seed"), other.pop("seed")
    assert mine == other, code


def test_the_form_is_filled_from_a_run_only_if_it_asks_the_very_same(model: Model) -> None:
    def back(prompt: Any, **how: Any) -> Draft | None:
        return draft_of_spec(Spec.make(prompt, [model], **how))

    for schema in (None, LABELS, ["yes", "no"], (1, 5), (None, 0.5), int, {"type": "object"}):
        draft = back("{review}", schema=schema, n=2, sampling={"temperature": 0.5})
        assert draft is not None
        judged = judge(draft, ["review"])
        assert judged.output is not None
        assert judged.output.to_dict() == Output.parse(schema).to_dict()
        assert (draft.n, draft.temperature) == ("2", "0.5")
    kept = back("{review}", schema=range(0, 100, 5))
    assert kept is not None
    assert kept.answer.kind == "kept"
    assert back({"a": "{review}", "b": "{review}"}) is None
    assert back("{review}", sampling={"top_k": 3}) is None
