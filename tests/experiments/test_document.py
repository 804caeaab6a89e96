"""Files of experiments: written once and for all, and judged whoever wrote them. About 6 s."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.altered import alter

from gguf_widgets.batch.output import Output
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.experiments import Experiment, load_experiment
from gguf_widgets.experiments import document as documents
from gguf_widgets.experiments.document import (
    digest_of_record,
    judged,
    prompt_of,
    read_file,
    sampling_of,
    to_plain,
    write_file,
)
from gguf_widgets.experiments.values import Answer, ModelRecord, Record, RequestItem, RunItem

SPEC = {
    "version": 1,
    "prompts": [
        {
            "name": "",
            "template": {
                "messages": [{"role": "user", "content": "About {a}"}],
                "syntax": "format",
            },
            "output": Output.parse(None).to_dict(),
        }
    ],
    "models": [],
    "sampling": {"temperature": 0.0},
    "missing": "refuse",
    "num_samples": 1,
    "seed": 1,
}


ASKED = {
    "spec": {**SPEC, "models": [{"name": "m", "path": "/m.gguf", "identity": "1-a"}]},
}


def sampling(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(SamplingSettings(**changes).to_dict())
    return plain


def record(**changes: Any) -> Record:
    """A small record with awkward values in it."""
    prompt = {"messages": [{"role": "user", "content": "Grüße \u2028 \U0001f600 \x00"}]}
    items = [
        RequestItem(
            model=0,
            at=1.5,
            prompt=prompt,
            sampling=sampling(seed=3, logit_bias={7: float("-inf")}),
            answer=Answer(text="Hi", tokens=[1, 2], prompt_tokens=[5]),
        ),
        RequestItem(
            model=0,
            at=2.5,
            prompt={"text": "raw"},
            sampling=sampling(stop=("x" * 5000,)),
            answer=Answer(status="failed", error={"kind": "E", "message": "No.", "details": {}}),
        ),
    ]
    whole = Record(
        id="0123456789abcdef" * 2,
        title="Title",
        created_at=1234.5678,
        models=[ModelRecord(name="m", path="/m.gguf")],
        items=list(items),
    )
    return msgspec.structs.replace(whole, **changes)


def test_what_is_written_is_read_again_and_the_same_each_time(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.json", record())
    found = read_file(path)
    assert found.record == record()
    assert not found.altered
    assert (
        found.digest
        == digest_of_record(record())
        == json.loads(path.read_text())["digest"]["whole"]
    )
    assert write_file(tmp_path / "b.json", found.record).read_bytes() == path.read_bytes()
    assert path.read_bytes().isascii()
    first = found.record.items[0]
    assert isinstance(first, RequestItem)
    assert sampling_of(first.sampling).logit_bias == {7: float("-inf")}
    # A program that lays JSON out anew changes nothing that counts.
    assert not read_file(alter(path, lambda _document: None)).altered


CHANGES: list[tuple[Any, str]] = [
    (lambda d: d["items"][0]["answer"].update(text="Ho"), "item 1 (answer)"),
    (lambda d: d["items"][1]["sampling"].update(temperature=0.1), "item 2 (sampling)"),
    (lambda d: d["items"][0].update(strict=True), "item 1 (strict)"),
    (lambda d: d["items"][0].update(digest={}), "item 1 ("),
    (lambda d: d["items"].reverse(), "which items there are, or their order"),
    (lambda d: d["items"].pop(), "which items there are, or their order"),
    (lambda d: d["models"][0].update(load={"n_ctx": 9}), "models"),
    (lambda d: d.update(title="Other"), "title"),
    (lambda d: d["program"].update(engine="9"), "program"),
    (lambda d: d.pop("digest"), "title"),
]


@pytest.mark.parametrize(("change", "where"), CHANGES, ids=[where for _, where in CHANGES])
def test_a_change_by_hand_is_noticed_and_placed(tmp_path: Path, change: Any, where: str) -> None:
    path = write_file(tmp_path / "a.json", record())
    altered = load_experiment(alter(path, change)).altered
    assert altered.startswith("This record was changed after it was saved: ")
    assert where in altered


def of(change: Any) -> dict[str, Any]:
    """Return a document with something changed in it."""
    document: dict[str, Any] = {"format": documents.FORMAT, "version": 1, **to_plain(record())}
    change(document)
    return document


def run_item(**changes: Any) -> dict[str, Any]:
    item = RunItem(
        run_id="r",
        title="",
        at=0.0,
        models=[0],
        templates=[None],
        spec=SPEC,
        sampling=sampling(),
        columns=[{"name": "a", "dtype": "object"}],
        rows=[["x"]],
        answers=[Answer()],
    )
    return {**to_plain(item), **changes}


REFUSED: list[tuple[Any, str]] = [
    (lambda d: d.update(version=2), "is from a newer version of gguf-widgets"),
    (lambda d: d.update(version=10**400), "is from a newer version of gguf-widgets"),
    (lambda d: d.update(version="1"), "Its version is '1'"),
    (lambda d: d.update(version=True), "Its version is True"),
    (lambda d: d.update(format="other"), "This is no experiment of gguf-widgets"),
    (lambda d: d.update(items={}), "Its items are no list"),
    (lambda d: d.update(items=[5]), "It cannot be read"),
    (lambda d: d.update(surprise=1), "unknown field `surprise`"),
    (lambda d: d["items"][0].update(surprise=1), "unknown field `surprise`"),
    (lambda d: d["items"][0].update(type="trap"), "trap"),
    (lambda d: d["items"][0].update(model=-1), "Item 1: It names model -1"),
    (lambda d: d["items"][0].update(model=10**30), "It names model 1000"),
    (lambda d: d["items"][0]["sampling"].update(temperature=99), "temperature is 99"),
    (lambda d: d["items"][0]["sampling"].update(flavour=1), "flavour"),
    (lambda d: d["items"][0].update(prompt={}), "none of them were given"),
    (lambda d: d["items"][0].update(prompt={"text": "a", "tokens": [1]}), "2 of them were given"),
    (lambda d: d["items"][0].update(prompt={"txt": "a"}), "does not know: 'txt'"),
    (lambda d: d["items"][0]["answer"].update(tokens=["a"]), "It cannot be read"),
    (lambda d: d.update(id="../../etc"), "Its id is"),
    (lambda d: d["items"].append(run_item()), "models are not those that it names"),
    (lambda d: d["items"].append(run_item(spec={})), "made by another version"),
    (lambda d: d["items"].append(run_item(spec={**SPEC, "prompts": [5]})), "cannot be read"),
    (lambda d: d["items"].append(run_item(spec={**SPEC, "models": 5})), "cannot be read"),
    (lambda d: d["items"].append(run_item(**ASKED, rows=[["x", "y"]])), "not as many values"),
    (lambda d: d["items"].append(run_item(**ASKED, rows=[[{"$time": 5, "x": 1}]])), "table cannot"),
    (lambda d: d["items"].append(run_item(**ASKED, rows=[[{"$date": []}]])), "table cannot be"),
    (lambda d: d["items"].append(run_item(**ASKED, columns=[{}])), "table cannot be read"),
    (lambda d: d["items"].append(run_item(**ASKED, answers=[{"number": 1}])), "one for each row"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_is_refused_in_words(change: Any, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        judged(of(change))
    assert words in caught.value.message


DEEP = b'{"format":' + b"[" * 100_000


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"null", b"[]", b'{"format": NaN}', DEEP, b"9" * 5000, b'{"format":"'],
    ids=["empty", "bytes", "null", "list", "NaN", "deep", "number", "cut"],
)
def test_a_file_of_something_else_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(InvalidValueError, match=r"x\.json"):
        load_experiment(path)


def test_a_file_that_cannot_be_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nothing.json", "zero\0.json"):
        with pytest.raises(InvalidValueError, match="cannot be read"):
            load_experiment(tmp_path / name)
    with pytest.raises(InvalidValueError, match="cannot be read"):
        load_experiment(tmp_path)
    path = write_file(tmp_path / "a.json", record())
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    with pytest.raises(InvalidValueError, match="can have 100 bytes at most"):
        load_experiment(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(InvalidValueError, match="it is not a plain file"):
            load_experiment(tmp_path / "pipe.json")


def test_what_was_there_stays_if_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "a.json", record())
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InvalidValueError, match="No space left on device"):
        write_file(path, record(title="Other"))
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*a.json*")) == [path], "and nothing is left beside it"
    with pytest.raises(InvalidValueError, match="could not be written to"):
        Experiment("x", keep=False).save(tmp_path / "no" / "folder.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_of_any_value_is_read_or_refused_in_words(data: st.DataObject) -> None:
    document = of(lambda d: d["items"].append(run_item()))
    place: Any = document
    for _ in range(data.draw(st.integers(0, 5))):
        inner = place.values() if isinstance(place, dict) else place
        deeper = [one for one in inner if isinstance(one, dict | list) and one]
        if not deeper:
            break
        place = data.draw(st.sampled_from(deeper))
    key = data.draw(
        st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
    )
    place[key] = data.draw(JSON)
    try:
        found = judged(document)
    except InvalidValueError:
        return
    for item in found.record.items:
        if isinstance(item, RequestItem):
            prompt_of(item.prompt)
        sampling_of(item.sampling)  # type: ignore[union-attr]
