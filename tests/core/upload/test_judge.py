"""What is no model, refused by its beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gguf_writer import Typed, gguf_bytes, model_entries
from support.model_bytes import model_bytes, model_header
from support.upload_steps import DATA, SIZE, at, begin, send

from gguf_widgets.core.errors import (
    BigEndianFileError,
    MalformedHeaderError,
    NotAModelError,
    NotGgufError,
    SplitFileError,
    TruncatedFileError,
    UnsupportedVersionError,
    UploadError,
    VocabularyOnlyError,
)
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.upload import UploadLimits, UploadStore


def text(value: str) -> Typed:
    return Typed("string", value)


REFUSED_AT_ONCE = {
    "a web page": (b"<html>" + bytes(SIZE), NotGgufError, "looks like a web page"),
    "a zip file": (b"PK\x03\x04" + bytes(SIZE), NotGgufError, "zip"),
    "zeros": (bytes(SIZE), NotGgufError, "not a GGUF"),
    "a text": (b"hello", NotGgufError, "not a GGUF"),
    "version 1": (b"GGUF\x01\0\0\0" + bytes(SIZE), UnsupportedVersionError, "version 1"),
    "version 9": (b"GGUF\x09\0\0\0" + bytes(SIZE), UnsupportedVersionError, "version 9"),
    "big-endian": (b"GGUF\0\0\0\x03" + bytes(SIZE), BigEndianFileError, "big-endian"),
    "a false count": (b"GGUF\x03\0\0\0" + b"\xff" * SIZE, MalformedHeaderError, "damaged"),
    "a vocabulary": (gguf_bytes(model_entries().items()), VocabularyOnlyError, "vocabulary only"),
    "an importance matrix": (
        model_bytes(SIZE, general__type=text("imatrix")),
        NotAModelError,
        "importance matrix",
    ),
    "a cut file": (DATA[: SIZE // 2], TruncatedFileError, "cut short"),
    "cut in its header": (DATA[:500], TruncatedFileError, "cut short"),
    "a part without its name": (
        model_bytes(SIZE, split__count=Typed("uint16", 3), split__no=Typed("uint16", 0)),
        SplitFileError,
        "one of the 3 parts",
    ),
}


@pytest.mark.parametrize("case", REFUSED_AT_ONCE)
def test_a_wrong_file_is_refused_before_it_is_sent_in_the_librarys_own_words(
    store: UploadStore, models: Path, tmp_path: Path, case: str
) -> None:
    data, kind, words = REFUSED_AT_ONCE[case]
    with pytest.raises(kind, match=words) as caught:
        begin(store, data)
    assert caught.value.details["path"] == str(models / "m.gguf")
    assert store.uploads() == []
    assert all(path.suffix == ".lock" for path in (models / ".uploads").iterdir())
    # The list of models says the same of the same file.
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(data)
    (entry,) = ModelLibrary(folder).entries()[1:]
    assert entry.error is not None
    if case != "cut in its header":
        assert entry.error.message == caught.value.message


def test_a_header_longer_than_the_first_piece_is_judged_when_it_has_arrived(
    store: UploadStore, models: Path
) -> None:
    long = model_bytes(2_000_000, num_header_bytes=700_000, general__type=text("imatrix"))
    upload = begin(store, long)
    assert upload.kind == ""
    with pytest.raises(NotAModelError, match="importance matrix") as caught:
        send(store, upload, long)
    assert caught.value.details["removed"] is True
    assert store.uploads() == []
    with pytest.raises(NotAModelError, match="importance matrix"):
        store.status(upload.id)

    good = model_bytes(2_000_000, num_header_bytes=700_000)
    upload = begin(store, good)
    assert send(store, upload, good, end=600_000).kind == ""
    assert send(store, at(upload, 600_000), good).kind == "model"
    store.finish(upload.id, writer=upload.writer)
    assert (models / "m.gguf").read_bytes() == good


def test_a_file_cut_inside_a_long_header_is_refused_without_waiting_for_its_end(
    store: UploadStore,
) -> None:
    cut = model_bytes(2_000_000, num_header_bytes=700_000)[:400_000]
    with pytest.raises(TruncatedFileError, match="ends inside its own header"):
        begin(store, cut)


@pytest.mark.parametrize(
    ("name", "changes", "kind", "words"),
    [
        ("a.gguf", {"general__type": text("adapter")}, "adapter", "an adapter"),
        ("p.gguf", {"general__type": text("mmproj")}, "projector", "companion"),
        (
            "m-00002-of-00003.gguf",
            {"split__no": Typed("uint16", 1), "split__count": Typed("uint16", 3)},
            "split_part",
            "part 2 of 3",
        ),
    ],
)
def test_companions_and_parts_are_let_in_and_told(
    store: UploadStore, models: Path, name: str, changes: dict[str, Typed], kind: str, words: str
) -> None:
    data = model_bytes(SIZE, **changes)
    upload = begin(store, data, name)
    assert upload.kind == kind
    assert words in upload.notes[0]
    send(store, upload, data)
    assert store.finish(upload.id, writer=upload.writer).state == "done"
    assert (models / name).read_bytes() == data


def test_a_first_part_may_hold_nothing_but_the_metadata(store: UploadStore) -> None:
    changes = {"split__no": Typed("uint16", 0), "split__count": Typed("uint16", 3)}
    data = gguf_bytes(model_entries(**changes).items())
    assert begin(store, data, "m-00001-of-00003.gguf").kind == "split_part"


def test_a_file_of_any_size_is_judged_by_its_beginning(store: UploadStore) -> None:
    size = 60 << 30
    head = model_header(size).ljust(1 << 16, b"\0")
    free = UploadStore(store.models, limits=UploadLimits(leave_free_bytes=0))
    try:
        upload = free.begin("m.gguf", size, head)
    except UploadError as error:  # on a small disk; what is judged comes first
        assert error.details["problem"] == "space"  # noqa: PT017
    else:
        assert upload.kind == "model"
    used = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in store.models.rglob("*"))
    assert used < 1 << 20
    with pytest.raises(TruncatedFileError, match="cut short"):
        free.begin("m.gguf", size - 3000, head)


def test_a_part_that_says_it_is_another_is_refused(store: UploadStore) -> None:
    changes = {"split__no": Typed("uint16", 2), "split__count": Typed("uint16", 3)}
    with pytest.raises(SplitFileError, match="should be part 2 of 3"):
        begin(store, model_bytes(SIZE, **changes), "m-00002-of-00003.gguf")
