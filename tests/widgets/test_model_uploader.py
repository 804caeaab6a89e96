"""`ModelUploader`: what its page is told, whatever the page sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.upload_files import sha256, write_letter, write_model
from support.uploader_page import HEAD, Page, Wire

from gguf_widgets.core.errors import InvalidValueError, UploadError
from gguf_widgets.core.upload import UploadLimits
from gguf_widgets.core.upload.session import MOST_HELD, PIECE_BYTES
from gguf_widgets.widgets.model_uploader import ModelUploader

SIZE = 5 * PIECE_BYTES  # and a header: six pieces


@pytest.fixture
def wire(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    uploader = ModelUploader(limits=UploadLimits(leave_free_bytes=0))
    wire = Wire(uploader, monkeypatch)
    yield wire
    uploader.close()


@pytest.fixture
def page(wire: Wire) -> Page:
    return Page(wire, "pageone")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("files") / "model.gguf", SIZE)


def parts(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models" / ".uploads").glob("*.part"))


def test_a_file_arrives_whole_and_is_told_to_python(page: Page, model: Path, home: Path) -> None:
    told: list[str] = []
    page.wire.uploader.observe(lambda change: told.append(change.new), "finished")
    assert page.begin(model)["upload"]["send_from"] == 0
    assert page.send_all(model)["type"] == "done"
    target = home / "models" / "model.gguf"
    assert sha256(target) == sha256(model)
    page.wire.wait(lambda _: told)
    assert told == [str(target)]
    assert [(one["state"], one["path"]) for one in page.wire.uploader.uploads] == [
        ("done", str(target))
    ]
    acks = [one for one in page.messages() if one["type"] == "ack"]
    assert [one["offset"] for one in acks] == sorted(one["offset"] for one in acks)
    assert all("writer" not in str(one) for one in page.wire.sent), "the right to write stays here"
    assert parts(home) == []


def test_pieces_in_another_order_repeated_and_lost_still_make_the_file(
    page: Page, model: Path, home: Path
) -> None:
    data = model.read_bytes()
    page.begin(model)
    at = [PIECE_BYTES * number for number in range(4)]
    for seq, number in enumerate([1, 0, 0, 3], start=1):  # the third never comes
        page.piece(data[at[number] : at[number] + PIECE_BYTES], seq, at[number])
    again = page.hear("again")
    assert again["offset"] == at[2]
    page.upload["send_from"] = again["offset"]
    assert page.send_all(model)["type"] == "done"
    assert sha256(home / "models" / "model.gguf") == sha256(model)


def test_a_page_that_ignores_the_window_is_not_kept_in_memory(page: Page, model: Path) -> None:
    data = model.read_bytes()
    page.begin(model)
    session = page.wire.uploader._desk._senders[page.session].session
    most = 0
    for seq in range(200):
        page.piece(data[PIECE_BYTES : 2 * PIECE_BYTES], seq + 1, PIECE_BYTES * (seq + 1))
        most = max(most, session._inbox.qsize() + len(session._early))
    assert 0 < most <= MOST_HELD
    page.hear("again")


def test_pause_go_on_and_cancel(page: Page, model: Path, home: Path) -> None:
    page.begin(model)
    page.send_all(model, until=2 * PIECE_BYTES)
    upload_id = page.upload["id"]
    paused = page.ask("pause", id=upload_id)["upload"]
    assert (paused["state"], paused["offset"]) == ("paused", 2 * PIECE_BYTES)
    since = len(page.wire.sent)
    page.piece(b"x", 9, paused["offset"])
    page.hear("paused", since=since)  # the last word, once more

    going_on = page.begin(model, id=upload_id)["upload"]
    assert going_on["id"] == upload_id
    assert 0 < going_on["send_from"] <= going_on["offset"] == 2 * PIECE_BYTES
    page.send_all(model, until=3 * PIECE_BYTES)
    assert page.ask("cancel", id=upload_id)["upload"] is None
    assert parts(home) == []
    assert page.wire.uploader.uploads == []


def test_a_wrong_file_is_refused_with_its_first_bytes_and_leaves_nothing(
    page: Page, tmp_path: Path, home: Path
) -> None:
    answer = page.begin(write_letter(tmp_path / "letter.gguf"))
    assert answer["error"]["kind"] == "NotGgufError"
    assert "letter.gguf" in answer["error"]["message"]
    assert parts(home) == []
    assert page.wire.uploader.uploads == []


def test_no_room_and_a_taken_name_say_what_to_do(
    page: Page, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / "model.gguf").write_bytes(b"somebody's")
    error = page.begin(model)["error"]
    assert error["details"]["problem"] == "exists"
    assert error["details"]["suggestion"] == "model (2).gguf"
    assert page.begin(model, saveAs="model (2).gguf")["upload"]["name"] == "model (2).gguf"
    assert page.send_all(model)["type"] == "done"
    assert sha256(home / "models" / "model (2).gguf") == sha256(model)
    assert (home / "models" / "model.gguf").read_bytes() == b"somebody's"

    for problem, limits in (
        ("quota", UploadLimits(quota_bytes=10, leave_free_bytes=0)),
        ("space", UploadLimits(leave_free_bytes=1 << 60)),
        ("size", UploadLimits(max_file_bytes=1000)),
    ):
        small = ModelUploader(home / "small", limits)
        try:
            other = Page(Wire(small, monkeypatch), "pagetwo")
            assert other.begin(model)["error"]["details"]["problem"] == problem
        finally:
            small.close()


def test_a_name_is_cleaned_and_the_page_told(page: Page, model: Path, home: Path) -> None:
    upload = page.begin(model, name="../../\u202emodel:one?.GGUF")["upload"]
    assert upload["name"] == "model_one_.gguf"
    assert "saved as" in upload["told"]
    page.send_all(model)
    assert (home / "models" / "model_one_.gguf").is_file()


def test_two_pages_with_the_same_file_and_taking_over(wire: Wire, model: Path, home: Path) -> None:
    first, second = Page(wire, "pageone"), Page(wire, "pagetwo")
    first.begin(model)
    first.send_all(model, until=2 * PIECE_BYTES)
    refused = second.begin(model)["error"]
    assert refused["details"]["problem"] == "in_use"
    # Neither a pause nor a cancel of another page's upload gets through.
    for kind in ("pause", "cancel", "remove"):
        assert second.ask(kind, id=first.upload["id"])["error"]["details"]["problem"] in (
            "taken_over",
            "in_use",
        )
    assert second.begin(model, takeOver=True)["upload"]["offset"] == 2 * PIECE_BYTES
    first.piece(model.read_bytes()[2 * PIECE_BYTES : 3 * PIECE_BYTES], 50, 2 * PIECE_BYTES)
    assert first.hear("error")["details"]["problem"] == "taken_over"
    assert second.send_all(model)["type"] == "done"
    assert sha256(home / "models" / "model.gguf") == sha256(model)


def test_two_files_of_one_page_come_one_after_the_other(
    wire: Wire, model: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.gguf", SIZE, seed=2)
    first, second = Page(wire, "pageone"), Page(wire, "pageone")
    second.number = 500
    first.begin(model)
    assert second.begin(other)["upload"]["state"] == "waiting"
    second.piece(other.read_bytes()[:HEAD], 1, 0)
    assert second.hear("wait")["place"] == 1
    first.send_all(model)
    assert second.hear("again")["offset"] == 0
    second.upload["send_from"] = 0
    assert second.send_all(other)["type"] == "done"


def test_a_reloaded_page_goes_on_where_it_stopped(wire: Wire, model: Path, home: Path) -> None:
    old = Page(wire, "pageone")
    old.begin(model)
    old.send_all(model, until=3 * PIECE_BYTES)
    old.post("bye")
    new = Page(wire, "pagetwo")
    new.ask("remove", id="0" * 32)  # the queue has come so far
    new.post("snapshot")
    state = wire.wait(lambda one: one["kind"] == "state" and one["state"]["uploads"])["state"]
    (left,) = state["uploads"]
    assert (left["offset"], left["isSent"]) == (3 * PIECE_BYTES, False)
    upload = new.begin(model)["upload"]
    assert upload["id"] == old.upload["id"]
    assert upload["send_from"] > 2 * PIECE_BYTES
    assert new.send_all(model)["type"] == "done"
    assert sha256(home / "models" / "model.gguf") == sha256(model)


def test_another_kernel_goes_on_where_one_was_killed(
    wire: Wire, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(wire, "pageone")
    page.begin(model)
    page.send_all(model, until=2 * PIECE_BYTES)
    wire.uploader.close()
    again = ModelUploader(limits=UploadLimits(leave_free_bytes=0))
    try:
        other = Page(Wire(again, monkeypatch), "pagetwo")
        assert other.begin(model)["upload"]["offset"] == 2 * PIECE_BYTES
        assert other.send_all(model)["type"] == "done"
    finally:
        again.close()


def test_a_page_that_missed_the_last_word_hears_it_again(page: Page, model: Path) -> None:
    page.begin(model)
    done = page.send_all(model)
    for missed in (
        lambda: page.post("ask", session=page.session),
        lambda: page.post("here", holds=[]),
        lambda: page.piece(b"x", 999, 0),
    ):
        since = len(page.wire.sent)
        missed()
        assert page.hear("done", since=since) == done
    page.session = "nobodys"
    page.piece(b"x", 999, 0)
    page.hear("lost")


def test_the_same_file_twice_is_recognised(page: Page, model: Path, home: Path) -> None:
    page.begin(model)
    page.send_all(model)
    page.begin(model, name="copy.gguf")
    done = page.send_all(model)
    assert done["upload"]["state"] == "already_there"
    assert sorted(path.name for path in (home / "models").glob("*.gguf")) == ["model.gguf"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 7}, {"name": None}, {"name": "x" * 5000}, {"size": "12"}, {"size": -1},
        {"size": 1 << 70}, {"size": 1.5}, {"size": True}, {"size": 0}, {"lastModified": "now"},
        {"lastModified": 1e300}, {"lastModified": 1 << 80}, {"saveAs": 5}, {"saveAs": "x" * 9000},
        {"page": None}, {"page": "../../etc"}, {"page": "x" * 100},
    ],
    ids=lambda changes: "-".join(f"{name}={str(value)[:8]}" for name, value in changes.items()),
)  # fmt: skip
def test_a_begin_that_makes_no_sense_is_a_sentence_and_leaves_nothing(
    page: Page, model: Path, home: Path, changes: dict[str, Any]
) -> None:
    error = page.begin(model, **changes)["error"]
    assert error["kind"] == "UploadError"
    assert len(error["message"]) > 20
    assert parts(home) == []


@pytest.mark.parametrize("buffers", [[], [b"x", b"y"], [b"GGUF"], [b"x" * (HEAD + 1)], ["text"]])
def test_a_begin_without_the_files_beginning_is_refused(
    page: Page, model: Path, buffers: list[Any]
) -> None:
    told = {"name": "m.gguf", "size": model.stat().st_size}
    assert page.ask("begin", buffers, **told)["error"]["details"]["problem"] == "head"


@pytest.mark.parametrize(
    ("changes", "buffers"),
    [
        ({"seq": "1"}, [b"x"]), ({"seq": -1}, [b"x"]), ({"offset": None}, [b"x"]),
        ({"offset": -5}, [b"x"]), ({"offset": 1 << 60}, [b"x"]), ({"offset": 0.5}, [b"x"]),
        ({}, []), ({}, [b"x", b"y"]), ({}, [b"x" * (PIECE_BYTES + 1)]), ({}, [b""]),
    ],
)  # fmt: skip
def test_a_piece_that_makes_no_sense_ends_the_session_in_a_sentence(
    page: Page, model: Path, changes: dict[str, Any], buffers: list[Any]
) -> None:
    page.begin(model)
    page.post("piece", buffers, **{"session": page.session, "seq": 1, "offset": 0, **changes})
    assert page.hear("error")["details"]["problem"] in ("piece", "too_long")
    # What arrived before it is kept, and the file goes on.
    assert page.begin(model, id=page.upload["id"])["upload"]["offset"] == 0
    assert page.send_all(model)["type"] == "done"


def test_what_is_unknown_or_a_path_is_refused_and_the_widget_lives_on(
    page: Page, home: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "precious.json"
    outside.write_text("{}")
    for bad in ("f" * 32, "../../precious", str(outside), "", None, 5, {"a": 1}, "x" * 9000):
        for kind in ("pause", "cancel", "remove"):
            assert page.ask(kind, id=bad)["error"]["details"]["problem"] == "unknown"
    uploader = page.wire.uploader
    for rubbish in (None, 5, "text", [], {}, {"kind": None}, {"kind": {}}, {"kind": "own"}):
        uploader._on_page(uploader, rubbish, None)
    for kind in ("piece", "ask"):
        for session in (None, 5, {}, "nobody", "x" * 100):
            page.post(kind, [b"x"], session=session)
    page.post("here", holds=["f" * 32, 5, None, "../x", *["a"] * 10_000])
    page.post("here", holds=7)
    page.post("ping")
    page.wire.wait(lambda one: one["kind"] == "pong")
    assert outside.read_text() == "{}"


def test_a_page_cannot_pass_any_file_for_a_finished_model(
    page: Page, model: Path, home: Path, tmp_path: Path
) -> None:
    (home / "models").mkdir(exist_ok=True)
    good = home / "models" / "good.gguf"
    good.write_bytes(model.read_bytes()[:100])
    outside = tmp_path / "outside.gguf"
    outside.write_bytes(b"x")
    (home / "models" / "link.gguf").symlink_to(outside)
    told: list[str] = []
    page.wire.uploader.observe(lambda change: told.append(change.new), "finished")
    for path in (
        str(outside), str(home / "models" / "link.gguf"), str(home / "models" / "none.gguf"),
        str(home / "models"), f"{home}/models/../../outside.gguf", "good.gguf", "\0", 5, None,
        str(good),
    ):  # fmt: skip
        page.post("ended", path=path, id="f" * 32, state="done")
    page.wire.wait(lambda _: told)
    assert told == [str(good)]


def test_python_can_pause_cancel_and_remove_and_says_what_it_cannot(
    wire: Wire, model: Path, home: Path
) -> None:
    page, uploader = Page(wire, "pageone"), wire.uploader
    page.begin(model)
    page.send_all(model, until=PIECE_BYTES)
    upload_id = page.upload["id"]
    assert [one["state"] for one in uploader.uploads] == ["receiving"]
    uploader.pause(upload_id)
    assert page.hear("paused")["upload"]["state"] == "paused"
    uploader.resume(upload_id)  # the page has the file
    assert wire.wait(lambda one: one["kind"] == "do")["action"] == "resume"
    page.post("bye")
    page.ask("remove", id="0" * 32)
    with pytest.raises(UploadError, match="Choose the same file there again"):
        uploader.resume(upload_id)
    uploader.remove(upload_id)
    assert uploader.uploads == []
    for method in (uploader.pause, uploader.resume, uploader.cancel, uploader.remove):
        with pytest.raises(UploadError, match="not known here any more"):
            method(upload_id)
    page.begin(model)
    uploader.cancel(page.upload["id"])
    assert page.hear("cancelled")["upload"] is None
    assert parts(home) == []


def test_what_a_page_sends_over_http_is_told_by_it(wire: Wire, model: Path) -> None:
    """The server writes then; the kernel only knows which page has the file."""
    uploader = wire.uploader
    with model.open("rb") as file:
        upload = uploader.store.begin("web.gguf", model.stat().st_size, file.read(HEAD))
    with pytest.raises(UploadError, match="No page of this widget"):
        uploader.pause(upload.id)
    page = Page(wire, "pageone")
    page.post("here", holds=[upload.id])
    wire.wait(lambda one: one["kind"] == "alive")
    for action in ("pause", "resume", "cancel"):
        since = len(wire.sent)
        getattr(uploader, action)(upload.id)
        order = wire.wait(lambda one: one["kind"] == "do", since)
        assert (order["action"], order["id"]) == (action, upload.id)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="folder is 5; it must be a path"):
        ModelUploader(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="must be UploadLimits"):
        ModelUploader(limits={"max_file_bytes": 5})  # type: ignore[arg-type]
