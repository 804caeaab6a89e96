"""What can be attached, as what; and what is said of the rest. About five seconds, most of it PDFs
that fight back.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import psutil
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import pdf_files
from support.tiny_projector import picture

from gguf_widgets.core.chat import attach_pdf as chat_attach_pdf
from gguf_widgets.core.chat.attach import MAX_FILE_BYTES, as_prompt, attach
from gguf_widgets.core.chat.attach_kinds import attachment_name
from gguf_widgets.core.chat.attach_pdf import PdfLimits, read_pdf
from gguf_widgets.core.chat.types import Attachment
from gguf_widgets.core.errors import (
    ImageError,
    InvalidValueError,
    MissingDependencyError,
    RequestCancelledError,
)

QUICK = PdfLimits(memory_bytes=400 << 20, cpu_s=4, page_s=0.4, wall_s=30.0)


def text_of(data: bytes, name: str = "a.txt") -> Attachment:
    return attach(data, name=name)[0]


def problem_of(data: bytes, name: str = "a.txt") -> tuple[str, str]:
    with pytest.raises(InvalidValueError) as caught:
        attach(data, name=name)
    return caught.value.details["problem"], caught.value.message


# -- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\r\nlines\rhere", "plain\nlines\nhere"),
        ("Grüße, 你好 😀".encode(), "Grüße, 你好 😀"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("über".encode("utf-16"), "über"),
        ("über".encode("utf-32"), "über"),
        ("Windows wrote this long ago".encode("utf-16-le"), "Windows wrote this long ago"),
        (b"\x1b[31mred\x1b[0m terminal", "\x1b[31mred\x1b[0m terminal"),
        (b"BM begins no picture here", "BM begins no picture here"),
        (b"MZ is a text, too", "MZ is a text, too"),
        (b"print('%PDF-1.7')", "print('%PDF-1.7')"),
    ],
)
def test_a_text_is_read_whatever_its_encoding(data: bytes, text: str) -> None:
    found, kept = attach(data, name="a.txt")
    assert (found.kind, found.text, found.note) == ("text", text, "")
    assert kept == data
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Straße ist gesperrt, fährt außen herum", "cp1252"),
        ("Привет, как дела? Это обычное письмо.", "cp1251"),
    ],
)
def test_an_old_encoding_is_guessed_and_the_guess_is_told(text: str, encoding: str) -> None:
    found = text_of(text.encode(encoding))
    assert found.text == text
    assert encoding.upper() in found.note


def test_a_few_spoiled_bytes_do_not_make_a_text_another_encoding() -> None:
    data = "Grüße aus Köln, schöne Grüße".encode()
    found = text_of(data[:20] + b"\xff" + data[20:])
    assert found.text is not None
    assert found.text.replace("\ufffd", "") == "Grüße aus Köln, schöne Grüße"
    assert "1 character could not be read" in found.note


@given(st.binary(max_size=400))
def test_any_bytes_give_a_text_that_can_be_stored_or_words(data: bytes) -> None:
    found: Attachment | None = None
    problem = ""
    try:
        found = text_of(data, "x.bin")
    except InvalidValueError as error:
        problem = error.details["problem"]
    if found is None:
        assert problem in {"empty", "kind", "damaged", "format", "size"}
    else:
        assert found.text is not None
        found.text.encode()
        assert "\x00" not in found.text


def test_half_characters_become_whole_ones() -> None:
    around = "some words".encode("utf-16-le") * 4
    found = text_of(b"\xff\xfe" + around + b"\x00\xd8" + around)
    assert found.text == "some words" * 4 + "\ufffd" + "some words" * 4


def test_five_megabytes_are_taken_and_more_than_the_limit_is_refused_with_numbers() -> None:
    five = ("All work and no play. " * 240_000).encode()
    assert text_of(five).size_bytes == len(five) > 5_000_000
    problem, words = problem_of(b"x" * 9_000_000)
    assert problem == "size"
    assert "9,000,000" in words
    assert "8,000,000" in words
    problem, words = problem_of(b"x" * (MAX_FILE_BYTES + 1))
    assert (problem, "21 MB" in words) == ("size", True)


@pytest.mark.parametrize(
    ("data", "name", "word"),
    [
        (b"", "a.txt", "empty"),
        (b" \r\n\t", "a.txt", "empty"),
        (b"PK\x03\x04rest", "report.docx", "a Word document"),
        (b"PK\x03\x04rest", "all.zip", "an archive"),
        (b"\x1f\x8b\x08", "a.txt", "a packed file"),
        (b"GGUF\x03\x00\x00\x00", "m.gguf", "a model file"),
        (b"PAR1xxxx", "t.parquet", "Parquet"),
        (b"\x7fELF\x02\x01", "a.out", "a program"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a.wav", "a sound"),
        (b"\x00\x00\x00\x18ftypmp42", "a.mp4", "a film"),
        (bytes(range(256)) * 20, "a.bin", "no text"),
        (b"many words here " * 5000 + b"\x00", "a.bin", "no text"),
    ],
)
def test_what_cannot_be_attached_is_told_what_it_is(data: bytes, name: str, word: str) -> None:
    _, words = problem_of(data, name)
    assert name in words
    assert word in words


# -- images --------------------------------------------------------------------------------------


def test_an_image_keeps_its_bytes_and_one_of_another_format_becomes_a_png() -> None:
    png = picture(1, 40, 30)
    found, data = attach(png, name="draw\u202eing.txt")
    assert (found.kind, found.mime, found.name, found.text) == (
        "image",
        "image/png",
        "drawing.txt",
        None,
    )
    assert data == png
    assert "40 x 30" in found.note
    from PIL import Image

    webp = io.BytesIO()
    Image.open(io.BytesIO(png)).save(webp, format="WEBP")
    found, data = attach(webp.getvalue(), name="a.webp")
    assert (found.mime, data[:4]) == ("image/png", b"\x89PNG")
    assert "PNG" in found.note
    found, data = attach(Image.new("RGB", (8, 8)))
    assert (found.kind, found.name) == ("image", "image.png")


def test_a_broken_image_and_a_huge_one_are_refused_by_name() -> None:
    png = picture(1, 40, 30)
    with pytest.raises(ImageError, match=r"“cat.png” cannot be attached"):
        attach(png[:60], name="cat.png")
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    crc = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="60,000 x 60,000"):
        attach(huge[:29] + crc + huge[33:], name="cat.png")


# -- where it comes from, and its name -------------------------------------------------------------


def test_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("Buy milk.", encoding="utf-8")
    assert text_of(path.read_bytes(), "notes.md").text == "Buy milk."
    found, data = attach(path)
    assert (found.name, found.mime, data) == ("notes.md", "text/markdown", b"Buy milk.")
    for source, problem in (
        (tmp_path / "none.txt", "missing"),
        (tmp_path, "missing"),
        (7, "source"),
    ):
        with pytest.raises(InvalidValueError) as caught:
            attach(source)
        assert caught.value.details["problem"] == problem


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a b.txt", "a b.txt"),
        ('a"quoted"\n.txt', "a_quoted_.txt"),
        ("\u202etxt.exe\x00\ud800", "txt.exe"),
        ("...", "text.txt"),
        ("x" * 500 + ".py", "x" * 116 + "….py"),
    ],
)
def test_names_are_cleaned(given_name: str, shown: str) -> None:
    assert attachment_name(given_name, "text.txt") == shown


@given(st.text(max_size=60))
def test_a_clean_name_stays_as_it_is_and_is_one_line_without_quotes(name: str) -> None:
    shown = attachment_name(name, "text.txt")
    assert attachment_name(shown, "text.txt") == shown
    assert shown.isprintable()
    assert not set('"/\\') & set(shown)


# -- in the prompt -------------------------------------------------------------------------------


@given(st.text(alphabet="`~a\n", max_size=60))
def test_no_text_can_end_its_own_fence(text: str) -> None:
    one = text_of(b"x" + text.encode())
    first, fence, *inside, last = as_prompt([one]).split("\n")
    assert first == 'Attached file "a.txt":'
    assert fence == last
    assert set(fence) == {"`"}
    assert fence not in "\n".join(inside)


def test_several_stand_one_after_the_other_and_images_are_not_among_them() -> None:
    both = [text_of(b"one", "1.txt"), attach(picture(1, 8, 8))[0], text_of(b"two\n", "2.txt")]
    assert as_prompt(both) == (
        'Attached file "1.txt":\n```\none\n```\n\nAttached file "2.txt":\n```\ntwo\n```'
    )
    assert as_prompt(both[1:2]) == ""


# -- PDFs ----------------------------------------------------------------------------------------


def test_a_pdfs_pages_come_with_their_numbers() -> None:
    found = text_of(pdf_files.good("First page.", "Second one."), "a.pdf")
    assert (found.kind, found.mime, found.note) == ("pdf", "application/pdf", "")
    assert found.text == "[Page 1]\nFirst page.\n\n[Page 2]\nSecond one."
    assert text_of(pdf_files.good("Alone."), "no-ending").text == "Alone."
    assert as_prompt([found]).startswith('Attached PDF "a.pdf":\n```\n[Page 1]')


def test_pages_without_text_are_told_and_a_scan_is_refused() -> None:
    blank = pdf_files.stream(b"")
    some = [pdf_files.stream(pdf_files.shows("Here")), blank, blank]
    found = text_of(pdf_files.with_pages(some), "a.pdf")
    assert found.note == "2 of 3 pages hold no text (pictures)."
    problem, words = problem_of(pdf_files.with_pages([blank]), "scan.pdf")
    assert problem == "scanned"
    assert "its page holds pictures or drawings alone" in words


def test_a_password_is_told() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_files.good("Secret.")))
    writer.encrypt("sesame", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    problem, words = problem_of(out.getvalue(), "a.pdf")
    assert problem == "password"
    assert "Save it without one" in words
    # One that anybody may open, and only not change.
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_files.good("Open.")))
    writer.encrypt("", "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    assert text_of(out.getvalue(), "a.pdf").text == "Open."


def hostile(data: bytes, limits: PdfLimits = QUICK) -> str:
    """Read one with tight limits; return the problem, after seeing that nothing is left."""
    with pytest.raises(InvalidValueError) as caught:
        read_pdf(data, "bomb.pdf", limits=limits)
    assert "bomb.pdf" in caught.value.message
    return str(caught.value.details["problem"])


def nothing_left() -> bool:
    running = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    readers = [p for p in running if any("attach_pdf_process" in part for part in p.cmdline())]
    return not readers and not any(t.name == "gguf-widgets-pdf" for t in threading.enumerate())


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (pdf_files.with_pages([pdf_files.packed_twice(1 << 30)]), {"memory", "time", "scanned"}),
        (pdf_files.forms_in_forms(), {"time", "memory", "damaged", "scanned"}),
        (pdf_files.pages_of_themselves(), {"damaged", "scanned", "time"}),
        (pdf_files.deep_lists(), {"damaged", "time", "memory"}),
        (pdf_files.endless_operators(), {"time", "memory", "scanned"}),
        (b"%PDF-1.7\n" + b"garbage " * 5000, {"damaged"}),
        (b"%PDF-", {"damaged"}),
    ],
    ids=["packed", "forms", "pages", "deep", "operators", "garbage", "short"],
)
def test_a_bomb_ends_in_words_and_leaves_nothing(data: bytes, problems: set[str]) -> None:
    assert hostile(data) in problems
    deadline = time.monotonic() + 20
    while not nothing_left():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_good_pages_before_and_after_a_bad_one_are_kept() -> None:
    good = pdf_files.stream(pdf_files.shows("Good."))
    slow = pdf_files.stream(b"/X Do\n" * 10)
    data = pdf_files.forms_in_forms(contents=[good, slow, good])
    found = read_pdf(data, "a.pdf", limits=QUICK)
    assert found.text == "[Page 1]\nGood.\n\n[Page 3]\nGood."
    assert found.note == "Page 2 could not be read."


def test_too_many_pages_and_too_much_text_are_cut_with_a_word() -> None:
    data = pdf_files.good(*(f"Page {n}." for n in range(20)))
    found = read_pdf(data, "a.pdf", limits=QUICK._replace(pages=5))
    assert found.text.count("[Page ") == 5
    assert found.note.startswith("Only the first 5 of 20 pages were read")
    found = read_pdf(data, "a.pdf", limits=QUICK._replace(chars=30))
    assert "its text is longer than 30 characters" in found.note


def test_a_process_that_is_killed_midway_keeps_what_it_had_read(monkeypatch: Any) -> None:
    real = chat_attach_pdf._Reader.messages

    def killed_after_two(self: Any) -> Any:
        for number, message in enumerate(real(self)):
            if number == 2:
                self._child.kill()
                return
            yield message

    monkeypatch.setattr(chat_attach_pdf._Reader, "messages", killed_after_two)
    found = read_pdf(pdf_files.good("One.", "Two.", "Three."), "a.pdf")
    assert found.text == "[Page 1]\nOne."
    assert found.note == "Only the first 1 of 3 pages were read: then reading failed."


def test_reading_can_be_stopped_and_says_how_far_it_is() -> None:
    seen: list[tuple[int, int]] = []

    def stop_at_two(done: int, total: int) -> bool:
        seen.append((done, total))
        return done < 2

    with pytest.raises(RequestCancelledError):
        read_pdf(pdf_files.good("One.", "Two.", "Three."), "a.pdf", stop_at_two)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_without_pypdf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pypdf" else real(name)
    )
    with pytest.raises(MissingDependencyError, match=r"gguf-widgets\[documents\]"):
        attach(pdf_files.good("One."), name="a.pdf")


def test_an_attachment_survives_json() -> None:
    import msgspec

    found = text_of(pdf_files.good("One."), "a.pdf")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Attachment) == found
    assert json.loads(msgspec.json.encode(found))["name"] == "a.pdf"


def test_the_reader_of_a_pdf_ends_when_nobody_listens_any_more() -> None:
    """As when the kernel is killed: otherwise it would go on for its minute of computing time."""
    data = pdf_files.forms_in_forms()
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            str(chat_attach_pdf._PROCESS_FILE),
            str(1 << 30),
            "600",
            "600",
            "10",
            "1000",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(len(data).to_bytes(4, "big") + data)
    process.stdin.flush()
    assert process.stdout.read(4)  # it has opened it, and reads the first page
    process.stdin.close()
    try:
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
