"""Columns with pictures on the page of a `BatchTable`: chosen, judged, shown, and where from.

The demo model, which sees, is loaded for two tests: about 12 seconds.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.batch_page import Page
from support.tiny_projector import jpeg_bytes, picture, png_bytes

from gguf_widgets.batch.images import MAX_COLUMNS, ImageColumns
from gguf_widgets.batch.missing import REFUSE
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.images import Image
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_cells import shown
from gguf_widgets.widgets._batch_draft import Draft, Turn, draft_of_spec, judge
from gguf_widgets.widgets._batch_images import Source, suggested
from gguf_widgets.widgets._batch_pictures import MAX_SHOWN_BYTES, Pictures
from tests.widgets.test_batch_table import repeated, send

Open = Callable[..., Page]

ASK = "What is this? {photo}"
SECRET = picture(9)


def url_of(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def seeing(manager: ModelManager) -> Model:
    return manager.load("demo")


@pytest.fixture
def blind(manager: ModelManager) -> Model:
    return manager.load("demo", mmproj=False)


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the one folder that may be browsed; beside it lies what nobody may see."""
    folder = (tmp_path / "allowed").resolve()
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "one.png").write_bytes(picture(1))
    (folder / "two.png").write_bytes(picture(2))
    (tmp_path / "secret.png").write_bytes(SECRET)
    monkeypatch.setenv("GGUF_WIDGETS_BROWSE", str(folder))
    return folder


def pictures_in(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts = [part for one in messages for part in one.get("parts", [])]
    return [part["picture"] for part in parts if "picture" in part]


def seen(page: Page, view: dict[str, Any]) -> bytes:
    """Return the bytes of a picture that the page was told of, as it gets them."""
    url = page.ask("picture", key=view["key"])["url"]
    assert url.startswith("data:image/png;base64,")
    return base64.b64decode(url.partition(",")[2])


def at_row(page: Page, row: int) -> dict[str, Any]:
    page.tell("row", row=row)

    def is_shown(state: dict[str, Any]) -> bool:
        preview = state["preview"]
        return preview["row"] == row and bool(pictures_in(preview["messages"]))

    return dict(page.until(is_shown)["preview"])


# -- from the form to the result -------------------------------------------------------------------


def test_an_uploaded_table_whose_pictures_lie_in_an_allowed_folder(
    open_batch: Open, seeing: Model, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_batch(seeing)
    assert page.state["model"]["sees"]
    lines = ["name,photo", "a,one.png", f"b,{allowed}/two.png", f"c,{allowed.parent}/secret.png"]
    (allowed.parent / "photos.csv").write_text("\n".join(lines))
    monkeypatch.chdir(allowed.parent)  # where the code that is copied finds the file
    send(page, "photos.csv", (allowed.parent / "photos.csv").read_bytes())
    state = page.until(lambda state: state["images"]["suggested"] == ["photo"])
    assert str(allowed) in state["images"]["words"]
    assert state["images"]["folder"] == str(allowed)
    assert state["draft"]["draft"]["images"] == []  # suggested, not chosen

    page.draft(prompt=ASK, images=["photo"], imagesFolder=str(allowed / "photos"), maxTokens="4")
    state = page.until(lambda state: state["preview"]["tokens"])
    (message,) = state["preview"]["messages"]
    assert message["parts"][0]["text"] == "What is this? "
    (view,) = pictures_in([message])
    assert view["alt"].startswith('Picture in "photo": one.png (PNG, 80 x 60 pixels, ')
    assert (view["width"], view["height"]) == (80, 60)
    assert seen(page, view) == picture(1)
    # The model's own count, the picture included.
    text = [{"role": "user", "content": "What is this? "}]
    assert state["preview"]["tokens"] > seeing.count_tokens(text)

    outside = at_row(page, 2)
    assert outside["fault"] == "This row will fail, as a picture cannot be read."
    (unread,) = pictures_in(outside["messages"])
    assert unread["isFault"]
    assert "in no folder that images may be taken from" in unread["words"]

    # The run, its rows and its files, the code, and the form again.
    state = page.run_to_end()
    assert (state["progress"]["done"], state["progress"]["failed"]) == (2, 1)
    run = page.widget.run
    assert run is not None
    frame = run.to_frame()
    wanted = ImageColumns(("photo",), str(allowed / "photos"), (str(allowed),))
    assert run.spec.images == wanted
    whole = page.ask("whole", number=1)["whole"]
    (view,) = pictures_in(whole["messages"])
    assert seen(page, view) == picture(2)
    assert pictures_in(page.ask("whole", number=2)["whole"]["messages"])[0]["isFault"]
    again = repeated(page.ask("code")["text"], seeing, frame, monkeypatch)
    assert again.spec.images == wanted
    page.ask("set-up")
    state = page.until(lambda state: state["run"] is None and state["draft"]["fills"])
    draft = state["draft"]["draft"]
    assert (draft["images"], draft["imagesFolder"]) == (["photo"], str(allowed / "photos"))
    page.until(lambda state: state["judged"]["faults"] == {} and state["preview"]["messages"])

    # What may not be browsed any more is not shown any more, of this run and in this form.
    monkeypatch.setenv("GGUF_WIDGETS_BROWSE", "none")
    page.ask("open", id=run.id)
    (unread,) = pictures_in(page.ask("whole", number=1)["whole"]["messages"])
    assert unread["isFault"]
    page.widget.run = None
    page.draft(prompt="Look: {photo}")
    state = page.until(lambda state: "imagesFolder" in state["judged"]["faults"])
    assert "GGUF_WIDGETS_BROWSE" in state["images"]["words"]
    assert not state["images"]["canChoose"]


def test_pictures_in_the_cells_and_a_table_from_python(
    open_batch: Open,
    seeing: Model,
    blind: Model,
    allowed: Path,
    manager: ModelManager,
    store: Store,
) -> None:
    secret = str(allowed.parent / "secret.png")
    table = pd.DataFrame(
        {
            "photo": [picture(3), url_of(picture(4)), {"bytes": picture(5), "path": "x"}, secret],
            "name": list("abcd"),
        }
    )
    page = open_batch(seeing, table)
    page.until(lambda state: state["images"]["suggested"] == ["photo"])
    given = page.state["table"]["given"]
    assert [row[0][:9] for row in given["first"][:3]] == ["picture, "] * 3
    page.draft(prompt="What is this?", images=["photo"], maxTokens="4")
    for row, data in enumerate((picture(3), picture(4), picture(5), SECRET)):
        preview = at_row(page, row)
        (view,) = pictures_in(preview["messages"])  # not named: in front
        assert preview["messages"][0]["parts"][1]["text"] == "What is this?"
        assert seen(page, view) == data
    assert "anywhere on the computer" in page.state["images"]["words"]
    page.run_to_end()
    rows = page.rows()["rows"]
    size = f"picture, {len(picture(3))} bytes"
    assert rows[0]["values"]["photo"] == size
    assert rows[1]["values"]["photo"] == f"picture, {len(picture(4))} bytes"
    assert rows[2]["values"]["photo"].startswith("picture, ")
    whole = page.ask("whole", number=0)["whole"]
    assert dict(whole["values"])["photo"] == size
    # Opened again elsewhere, its table is still Python's; that of a run without folders of its own
    # may be a page's.
    run = page.widget.run
    assert run is not None
    other = open_batch(None, run=run.id)
    other.ask("set-up")
    other.until(lambda state: state["run"] is None and state["table"]["given"])
    given = other.widget._set_up.given
    assert given is not None
    assert (given.from_page, given.folder) == (False, os.fspath(Path.cwd()))
    text = BatchProcessor(seeing, store=store, manager=manager).prepare(table, "{name}")
    other = open_batch(None, run=text.id)
    other.ask("set-up")
    other.until(lambda state: state["run"] is None and state["table"]["given"])
    given = other.widget._set_up.given
    assert given is not None
    assert given.from_page
    # A model without sight among the others is told of before anything is asked.
    page.ask("set-up")
    page.until(lambda state: state["run"] is None and state["draft"]["draft"]["images"])
    page.widget._set_up._manager.load = lambda name: blind  # type: ignore[assignment,method-assign]
    page.draft(models=["other"])
    page.ask("start")
    state = page.until(lambda state: state["check"] and state["check"].get("error"))
    assert 'The model "demo" cannot see pictures' in state["check"]["error"]
    page.draft(models=[])
    page.widget.model = blind
    state = page.until(lambda state: "images" in state["judged"]["faults"])
    assert not state["model"]["sees"]
    page.until(lambda state: pictures_in(state["preview"]["messages"]))  # to be seen all the same


# -- hostile names ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own elsewhere")
def test_a_page_names_no_file_outside_of_what_may_be_browsed(
    open_batch: Open, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (allowed / "link.png").symlink_to(allowed.parent / "secret.png")
    (allowed / "folder").symlink_to(allowed.parent)
    names = [
        "../secret.png",
        "link.png",
        "folder/secret.png",
        str(allowed.parent / "secret.png"),
        str(allowed) + "/../secret.png",
        "~root/secret.png",
        "/proc/self/environ",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "gone.png",
        "a\tb.png",
    ]
    page = open_batch()
    send(page, "hostile.tsv", ("photo\n" + "\n".join(names[:-1])).encode())
    page.draft(prompt=ASK, images=["photo"])
    for row in range(len(names) - 1):
        preview = at_row(page, row)
        page.until(lambda state: state["preview"]["fault"])
        (view,) = pictures_in(page.state["preview"]["messages"])
        assert view["isFault"], names[row]
        assert "key" not in view, names[row]
        assert preview["messages"][0]["text"] == "What is this? "
    assert page.widget._set_up._pictures._kept == {}
    # No folder either, there or not; the words are the same for both.
    said = set()
    for folder in (allowed.parent, allowed.parent / "gone", "/proc", allowed / "folder"):
        page.draft(imagesFolder=str(folder))
        state = page.until(lambda state: "imagesFolder" in state["judged"]["faults"])
        said.add(state["judged"]["faults"]["imagesFolder"].partition('" ')[2])
    assert len(said) == 1
    assert "is outside of the folders in which you may look" in said.pop()
    told = [state["judged"]["faults"]["imagesFolder"]]
    for folder, words in (
        (allowed / "two.png", "is a file"),
        (allowed / "gone", 'There is no "gone"'),
        ("photos", "does not say where it begins"),
    ):
        page.draft(imagesFolder=str(folder))
        state = page.until(lambda state: state["judged"]["faults"].get("imagesFolder") not in told)
        told.append(state["judged"]["faults"]["imagesFolder"])
        assert words in told[-1]
    # A picture in the cell itself works even where nothing may be browsed.
    monkeypatch.setenv("GGUF_WIDGETS_BROWSE", "none")
    send(page, "own.tsv", f"photo\n{url_of(picture(7))}\ntwo.png\n".encode())
    page.draft(imagesFolder="")
    state = page.until(lambda state: pictures_in(state["preview"]["messages"]))
    assert seen(page, pictures_in(state["preview"]["messages"])[0]) == picture(7)
    assert "no folder may be looked into" in state["images"]["words"]
    at_row(page, 1)
    state = page.until(lambda state: state["preview"]["fault"])
    assert "from: none is set." in pictures_in(state["preview"]["messages"])[0]["words"]


def test_a_page_gets_only_pictures_that_it_was_told_of_and_of_bounded_size(
    open_batch: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_batch()
    for key in ("0" * 64, "../x", None, 7, ["a"]):
        assert "is not kept" in page.ask("picture", key=key)["error"]["message"]
    pictures = Pictures()
    noise = np.random.default_rng(0).integers(0, 256, (1000, 700, 3), np.uint8)
    large = png_bytes(noise)
    assert len(large) > MAX_SHOWN_BYTES
    view = pictures.view(Image(large), "photo", "C:\\photos\\large.png")
    assert 'in "photo": large.png (PNG, 700 x 1,000 pixels, 2.1 MB' in view["words"]
    assert "The model gets it" in view["words"]
    assert not pictures._kept
    grey = jpeg_bytes(np.full((4, 4), 99, np.uint8))
    assert pictures.view(Image(grey), "photo", grey)["alt"].startswith('Picture in "photo" (JPEG, ')
    # Only the last ones are kept.
    monkeypatch.setattr("gguf_widgets.widgets._batch_pictures._KEPT_BYTES", 1000)
    for seed in range(30):
        pictures.view(Image(picture(seed)), "photo", "")
    assert sum(len(one.data) for one in pictures._kept.values()) <= 1000
    assert Image(picture(29)).digest in pictures._kept


# -- judging, and back from a run ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sees", "field", "words"),
    [
        ({"images": ["foto"]}, True, "images", 'no column "foto"'),
        ({"images": ["photo"]}, False, "images", "cannot see pictures"),
        ({"images": [f"c{i}" for i in range(MAX_COLUMNS + 1)]}, None, "images", "can have 16"),
        ({"images": ["photo"], "system": "{photo}"}, True, "system", "a message of yours"),
        (
            {"images": ["photo"], "turns": [Turn("assistant", "{photo}")]},
            True,
            "turns",
            "a message of yours",
        ),
    ],
)
def test_each_fault_is_told_at_its_field(
    changes: dict[str, Any], sees: bool | None, field: str, words: str
) -> None:
    columns = [] if sees is None else ["photo", "text"]
    faults = judge(Draft(prompt=ASK, **changes), columns, source=Source(), sees=sees).faults
    assert list(faults) == [field]
    assert words in faults[field]


def test_what_is_sound_is_what_a_run_gets(blind: Model, store: Store) -> None:
    draft = Draft(prompt=ASK, images=["photo", "back", "photo"])
    source = Source("/pictures", ("/pictures", "/more"), True)
    judged = judge(draft, ["photo", "back"], source=source, sees=True)
    assert judged.faults == {}
    images = ImageColumns(("photo", "back"), "/pictures", ("/pictures", "/more"))
    assert judged.keywords["images"] == images
    spec = Spec.make(ASK, [blind], images=images)
    back = draft_of_spec(spec)
    assert back is not None
    assert (back.images, back.images_folder) == (["photo", "back"], "/pictures")
    # Whoever has no pictures is asked as ever.
    assert "images" not in judge(Draft(prompt="{photo}"), ["photo"], sees=False).keywords
    with pytest.raises(InvalidValueError, match="loaded without a projector"):
        BatchProcessor(blind, store=store).prepare({"photo": ["x"]}, ASK, images="photo")


def test_only_what_stands_in_the_prompt_is_a_fault() -> None:
    """A condition in the prompt leaves a bad picture out, and a run does not fail there either."""
    template = Template.parse("{% if wanted %}{{ photo }}{% endif %}Hello")
    images = ImageColumns(("photo",), "", ())
    row = {"photo": "gone.png", "wanted": ""}
    asked = Pictures().asked(template, REFUSE, images, row)
    assert asked.num_unread == 0
    assert asked.messages == [{"role": "user", "content": "Hello"}]
    asked = Pictures().asked(template, REFUSE, images, {**row, "wanted": "yes"})
    assert asked.num_unread == 1
    assert "gone.png" in pictures_in(asked.views)[0]["words"]
    assert asked.messages == []


def test_columns_that_look_like_pictures_are_suggested() -> None:
    table = pd.DataFrame(
        {
            "bytes": [picture(1), None],
            "names": ["a.PNG", "b/c.jpeg"],
            "data": [url_of(picture(1)), url_of(picture(2))],
            "pairs": [{"bytes": None, "path": "a.gif"}, {"bytes": picture(1), "path": None}],
            "paths": [Path("a.webp"), Path("b.bmp")],
            "texts": ["See a.png, please", "b"],
            "half": ["a.png", "b"],
            "web": ["https://example.com/a.png", "http://b.de/c.jpg"],
            "other bytes": [b"PK\x03\x04", b"%PDF"],
            "numbers": [1, 2.5],
            "nothing": [None, None],
            "lists": [["a.png"], []],
        }
    )
    found = suggested(table, [str(name) for name in table.columns])
    assert found == ["bytes", "names", "data", "pairs", "paths"]


def test_a_picture_in_a_cell_is_one_and_not_its_bytes() -> None:
    data = picture(1, 300, 200)
    size = shown(data)
    assert size is not None
    assert size.startswith("picture, ")
    assert shown({"bytes": data, "path": "a.png"}) == size
    assert shown({"bytes": None, "path": "a.png"}) == "a.png"
    assert shown(url_of(data)) == size
    assert shown(url_of(data)[:299] + "…") == "picture"  # as the store's window cuts it
    assert shown(b"abc") == "3 bytes"
    assert shown("data: none") == "data: none"
