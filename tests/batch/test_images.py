"""Columns that hold images: what a cell may be, where its image goes, and what fails a row."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.tiny_projector import png_bytes

from gguf_widgets.batch import files
from gguf_widgets.batch.images import MAX_COLUMNS, ImageColumns, described, num_image_bytes
from gguf_widgets.batch.missing import MissingRule
from gguf_widgets.batch.processor import folder_of
from gguf_widgets.batch.template import Template
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import InvalidValueError, RowError
from gguf_widgets.core.types import ImagePart, Message


def png(red: int) -> bytes:
    """Return a small picture of one colour."""
    return png_bytes(np.full((4, 4, 3), (red, 0, 0), dtype=np.uint8))


def asked(template: Template, images: ImageColumns, row: dict[str, Any]) -> list[Message]:
    """Do what a run does with a row."""
    marked = template.render(images.marked(row), MissingRule("empty"))
    return to_messages(images.placed(marked, row, template.columns))


def parts_of(message: Message) -> list[Any]:
    return [one.data if isinstance(one, ImagePart) else one.text for one in message["parts"]]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("What is it?", [png(1), "What is it?"]),  # not named: before the text
        ("{photo}", [png(1)]),
        ("Look:\n{photo}\nWhat is it?", ["Look:", png(1), "What is it?"]),
        ("{photo}{photo}", [png(1), png(1)]),
        ("{{ photo }} and {{ photo }}", [png(1), " and ", png(1)]),
        ("{% if wanted %}{{ photo }}{% endif %}What is it?", "What is it?"),
        ("{% for name in row %}{{ row[name] }}{% endfor %}", [png(1)]),
    ],
)
def test_an_image_goes_where_its_column_is_named(source: str, expected: Any) -> None:
    row = {"photo": png(1), "wanted": ""}
    (message,) = asked(Template.parse(source), ImageColumns(("photo",)), row)
    if isinstance(expected, str):
        assert message == {"role": "user", "content": expected}
    else:
        assert parts_of(message) == expected


def test_columns_that_are_not_named_go_before_the_last_question_in_their_order() -> None:
    template = Template.parse(
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "{example} What is it?"},
            {"role": "assistant", "content": "A lamp."},
            {"role": "user", "content": "And these?"},
        ]
    )
    images = ImageColumns.parse(["front", "example", "back"])
    row = {"front": png(1), "back": png(2), "example": png(3)}
    system, first, answer, last = asked(template, images, row)
    assert "parts" not in system
    assert "parts" not in answer
    assert parts_of(first) == [png(3), " What is it?"]
    assert parts_of(last) == [png(1), png(2), "And these?"]
    without = asked(template, images, {**row, "back": None})
    assert parts_of(without[3]) == [png(1), "And these?"]


def test_a_cell_is_bytes_a_file_an_address_of_its_own_or_what_data_sets_have(
    tmp_path: Path,
) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "a.png").write_bytes(png(1))
    images = ImageColumns.parse("photo", folder=tmp_path)
    question = Template.parse("?")
    url = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    cells = [
        png(1),
        "a.png",
        "./a.png",
        str(tmp_path / "a.png"),
        Path("a.png"),
        url,
        {"bytes": png(1), "path": "elsewhere.png"},
        {"bytes": None, "path": "a.png"},
    ]
    for cell in cells:
        (message,) = asked(question, images, {"photo": cell})
        assert parts_of(message) == [png(1), "?"], cell
    picture = pillow.open(tmp_path / "a.png")
    (message,) = asked(question, images, {"photo": picture})
    assert parts_of(message)[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("gone.png", 'no image file "'),
        ("https://example.com/a.png", "nothing is fetched"),
        ("", "image file"),
        (".", "image file"),
        ("a\0b", "image file"),
        ("~nobody-of-this-name/a.png", "no image file"),
        (b"GIF", "image"),
        (b"", "image"),
        (png(1)[:40], "image"),
        (17, "int"),
        ({"bytes": None, "path": None}, "NoneType"),
        ({"other": 1}, "dict"),
        ("data:image/png;base64,%%%", "base64"),
        ("no\0name.png", "no file name"),
        ("~no\0body/a.png", "no name of a file"),
    ],
)
def test_what_is_no_image_fails_its_row_and_says_the_column(
    cell: Any, said: str, tmp_path: Path
) -> None:
    images = ImageColumns.parse("photo", folder=tmp_path)
    with pytest.raises(RowError, match='Column "photo": ') as refused:
        asked(Template.parse("?"), images, {"photo": cell})
    assert said in refused.value.message
    assert refused.value.details["column"] == "photo"


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    images = ImageColumns.parse("photo", folder=tmp_path)
    with pytest.raises(RowError, match="photo"):
        asked(Template.parse("?"), images, {"photo": "pipe.png"})


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own elsewhere")
def test_only_allowed_folders_are_looked_into_whatever_a_name_says(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(9))
    (inside / "mine.png").write_bytes(png(1))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    images = ImageColumns(("photo",), str(inside), (str(inside),))
    (message,) = asked(Template.parse("?"), images, {"photo": "mine.png"})
    assert parts_of(message)[0] == png(1)
    for name in (
        "../outside/secret.png",
        "link.png",
        "folder/secret.png",
        "loop",
        str(outside / "secret.png"),
        str(inside) + "/../outside/secret.png",
        "~/secret.png",
    ):
        with pytest.raises(RowError, match="in no folder that images may be") as refused:
            asked(Template.parse("?"), images, {"photo": name})
        assert refused.value.details["problem"] == "folder"
    nowhere = ImageColumns(("photo",), str(inside), ())
    with pytest.raises(RowError, match="none is set"):
        asked(Template.parse("?"), nowhere, {"photo": "mine.png"})
    (message,) = asked(Template.parse("?"), nowhere, {"photo": png(2)})  # it brings its own
    assert parts_of(message)[0] == png(2)


@pytest.mark.parametrize(
    "source",
    ["{photo:.5}?", "{photo:.20}", "{{ photo | upper }}", "{{ photo[:30] }}", "{{ photo[-20:] }}"],
)
def test_a_place_that_a_template_cuts_or_changes_fails_its_row(source: str) -> None:
    with pytest.raises(RowError, match="cuts or changes the place of an image"):
        asked(Template.parse(source), ImageColumns(("photo",)), {"photo": png(1)})


def test_a_text_of_the_table_cannot_pass_for_an_image() -> None:
    images = ImageColumns(("photo",))
    other = ImageColumns(("text",)).marked({"text": "x"})["text"]
    assert other != "x"
    mark = other[:1] + "0" * 32 + other[33:]  # of the right form, and guessed
    (message,) = asked(Template.parse("{text}"), images, {"photo": None, "text": mark})
    assert message == {"role": "user", "content": mark}


def test_an_image_belongs_into_a_message_of_the_users() -> None:
    images = ImageColumns(("photo",))
    system = Template.parse(
        [{"role": "system", "content": "{photo}"}, {"role": "user", "content": "?"}]
    )
    with pytest.raises(RowError, match="role 'system'"):
        asked(system, images, {"photo": png(1)})
    nobody = Template.parse([{"role": "assistant", "content": "Well?"}])
    with pytest.raises(RowError, match="no message of the user's"):
        asked(nobody, images, {"photo": png(1)})


def test_wrong_names_are_refused_before_a_run() -> None:
    for wrong in (3, [""], ["a", 4], [f"c{i}" for i in range(MAX_COLUMNS + 1)]):
        with pytest.raises(InvalidValueError, match="images= is the name"):
            ImageColumns.parse(wrong if isinstance(wrong, list) else [wrong])
    with pytest.raises(InvalidValueError, match='"foto", and the table has no such column') as told:
        ImageColumns.parse("foto").check(["photo", "text"])
    assert told.value.details["unknown"] == ["foto"]
    assert ImageColumns.parse(None) == ImageColumns()
    assert ImageColumns.parse(["a", "a"]).columns == ("a",)


def test_the_text_for_a_key_tells_images_apart_by_their_content() -> None:
    images = ImageColumns(("photo",))
    one, same, two = (asked(Template.parse("?"), images, {"photo": png(red)}) for red in (1, 1, 2))
    assert described(one) == described(same) != described(two)
    assert hashlib.sha256(png(1)).hexdigest() in described(one)
    assert num_image_bytes(one) == len(png(1))
    text = [Message(role="user", content="?")]
    assert described(text) == '[{"role":"user","content":"?"}]'
    assert num_image_bytes(text) == 0
    assert ImageColumns.from_dict(images.to_dict()) == images


def test_files_are_looked_for_beside_the_tables_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "table.csv").write_text("folder,photo\na,b.png\n")
    for table in ("~/table.csv", tmp_path / "table.csv", files.read(tmp_path / "table.csv")):
        assert folder_of(table) == tmp_path
    frame = pd.DataFrame({"folder": ["a"], "photo": ["b.png"]})
    for table in (frame, ["a"], files.Pasted("folder,photo\na,b.png\n")):
        assert folder_of(table) is None
