"""Excel files, of spreadsheet programs and of people who mean harm."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from gguf_widgets.batch.files import excel_zip, look, read, read_excel, write
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError, TableFileError


def _book(fill: Callable[[Any], None]) -> bytes:
    book = openpyxl.Workbook()
    fill(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _sheet(*rows: tuple[Any, ...], at: tuple[int, int] = (1, 1)) -> bytes:
    def fill(book: Any) -> None:
        for y, row in enumerate(rows, at[0]):
            for x, value in enumerate(row, at[1]):
                book.active.cell(y, x, value)

    return _book(fill)


def _changed(data: bytes, part: str, change: Callable[[str], str]) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content.decode()) if name == part else content)
    return file.getvalue()


_XML = "xl/worksheets/sheet1.xml"


def test_cells_have_the_types_that_excel_shows() -> None:
    def fill(book: Any) -> None:
        sheet = book.active
        sheet.append(["n", "f", "s", "b", "d", "t", "clock"])
        moment = dt.datetime(2026, 1, 2)  # noqa: DTZ001
        sheet.append([1, 1.5, "00123", True, moment.date(), moment, dt.time(3, 4)])
        sheet.append([2, 2, None, False, None, None, None])
        sheet["F2"].number_format = "dd.mm.yyyy hh:mm"

    source = read(_book(fill), name="t.xlsx")
    first, second = source.tuples()
    assert first == (
        *(1, 1.5, "00123", True, dt.date(2026, 1, 2)),
        *(dt.datetime(2026, 1, 2), "03:04:00"),  # noqa: DTZ001
    )
    assert type(first[4]) is dt.date
    assert type(second[1]) is float
    assert list(source.dtypes.values()) == [
        *("int64", "float64", "string", "bool", "datetime64[us]", "datetime64[us]", "string"),
    ]


def test_a_table_somewhere_in_the_sheet_is_found_and_what_was_left_out_is_told() -> None:
    data = _sheet(
        ("name", None, "age"), ("Ann", None, 31), (None, None, None), ("Bo", None, 25), at=(4, 3)
    )
    source = read(data, name="t.xlsx")
    assert list(source) == [{"name": "Ann", "age": 31}, {"name": "Bo", "age": 25}]
    assert source.notes == ("3 empty columns left out.", "1 empty row left out.")


def test_a_large_sheet_is_looked_at_in_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gguf_widgets.batch.files.looking._WHOLE_BYTES", 0)
    monkeypatch.setattr("gguf_widgets.batch.files.looking._PART_ROWS", 30)
    info = look(_sheet(("a",), *[(number,) for number in range(100)]), name="t.xlsx")
    assert (info.num_rows, info.about_rows, info.complete) == (None, 100, False)
    assert len(info.rows) == 20


def test_the_names_row_can_be_said() -> None:
    data = _sheet(("Report",), (), ("a", "b"), (1, 2), (3, 4))
    source = read(data, name="t.xlsx", header=3)
    assert (source.columns, list(source.tuples())) == (("a", "b"), [(1, 2), (3, 4)])
    plain = read(_sheet((1, 2), (3, 4)), name="t.xlsx")
    assert plain.columns == ("column_1", "column_2")
    assert "taken for data" in plain.notes[0]


def test_sheets_are_chosen_by_name_or_number_and_the_others_are_told() -> None:
    def fill(book: Any) -> None:
        book.active.title = "hidden"
        book.active.sheet_state = "hidden"
        for title in ("first", "second"):
            sheet = book.create_sheet(title)
            sheet.append(["in"])
            sheet.append([title])

    data = _book(fill)
    info = look(data, name="t.xlsx")
    assert (info.sheet, info.sheets) == ("first", ("hidden", "first", "second"))
    assert "3 sheets; this is 'first'" in info.notes[0]
    assert list(read(data, name="t.xlsx", sheet="second")) == [{"in": "second"}]
    assert list(read(data, name="t.xlsx", sheet=2)) == [{"in": "first"}]
    for wanted in ("no", 4, 0):
        with pytest.raises(InvalidValueError, match="hidden, first, second"):
            read(data, name="t.xlsx", sheet=wanted)
    with pytest.raises(TableFileError, match=r"'hidden' .* is empty"):
        read(data, name="t.xlsx", sheet="hidden")


def test_errors_and_formulas_nobody_computed_are_missing_and_told() -> None:
    data = _sheet(("a", "b"), (1, "=A2+1"), (2, "#DIV/0!"))
    source = read(data, name="t.xlsx")
    assert list(source.tuples()) == [(1, None), (2, None)]
    assert "1 formula of the sheet 'Sheet' came without a value" in source.notes[-1]
    assert "B2" in source.notes[-1]
    assert "B3 (#DIV/0!)" in source.notes[0]
    computed = _changed(
        data, _XML, lambda xml: xml.replace("<v></v>", "<v>2</v>").replace("<v />", "<v>2</v>")
    )
    assert list(read(computed, name="t.xlsx").tuples()) == [(1, 2), (2, None)]


def test_what_a_model_writes_is_text_and_never_a_formula(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(1)", "#N/A", "=1+1", "_x0041_", "a\x07b"]
    write(tmp_path / "t.xlsx", [{"=name": text} for text in texts])
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    assert [cell.data_type for cell in sheet["A"]] == ["s"] * 9
    source = read(tmp_path / "t.xlsx", header=True)
    assert [row["=name"] for row in source] == texts


def test_what_excel_cannot_hold_is_written_as_text_and_told(tmp_path: Path) -> None:
    aware = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    row = {"old": dt.date(1066, 10, 14), "aware": aware, "big": 10**20, "inf": float("inf")}
    written = write(tmp_path / "t.xlsx", [row])
    assert list(read(tmp_path / "t.xlsx", header=True).tuples()) == [
        ("1066-10-14", "2026-01-02 00:00:00+00:00", "1" + "0" * 20, "inf")
    ]
    assert len(written.notes) == 4


def test_what_does_not_fit_is_refused_before_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.xlsx"
    with pytest.raises(TableFileError, match="Row 2 of 'a' has 32,768 characters"):
        write(path, [{"a": "x"}, {"a": "y" * 32_768}])
    with pytest.raises(TableFileError, match="1,048,576 rows, and an Excel sheet holds 1,048,575"):
        write(path, _Long([(1,)]), columns=["a"])
    monkeypatch.setattr("gguf_widgets.batch.files.write_excel.MAX_EXCEL_ROWS", 10)
    with pytest.raises(TableFileError, match="10 rows"):
        write(path, ((number,) for number in range(100)), columns=["a"])
    assert list(tmp_path.glob("*")) == [tmp_path / "home"]


class _Long(list[Any]):
    def __len__(self) -> int:
        return 1_048_576


def test_a_file_that_claims_a_billion_cells_costs_nothing() -> None:
    data = _sheet(("a", "b"), (1, 2))
    claimed = _changed(data, _XML, lambda xml: xml.replace('ref="A1:B2"', 'ref="A1:XFD1048576"'))
    assert "XFD1048576" in zipfile.ZipFile(io.BytesIO(claimed)).read(_XML).decode()
    assert list(read(claimed, name="t.xlsx").tuples()) == [(1, 2)]


def test_a_sheet_that_is_nothing_but_gaps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_excel, "_MAX_GAPS", 100_000)

    def far(xml: str) -> str:
        rows = "".join(
            f'<row r="{number}"><c r="XFD{number}"><v>1</v></c></row>' for number in range(3, 60)
        )
        return xml.replace("</sheetData>", f"{rows}</sheetData>")

    with pytest.raises(TableFileError, match=r"empty cells before row .* not read"):
        read(_changed(_sheet(("a", "b"), (1, 2)), _XML, far), name="t.xlsx")


def test_rows_beyond_excels_last_are_refused_in_time() -> None:
    data = _changed(
        _sheet(("a",), (1,)), _XML, lambda xml: xml.replace('<row r="2"', '<row r="999999999"')
    )
    with pytest.raises(TableFileError, match="beyond 1,048,576"):
        read(data, name="t.xlsx")


def test_bombs_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _sheet(("a",), (1,))
    blown = _changed(data, _XML, lambda xml: xml + " " * 30_000_000)
    assert len(blown) < 100_000
    with pytest.raises(TableFileError, match="unpacked"):
        read(blown, name="t.xlsx")
    monkeypatch.setattr(excel_zip, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(TableFileError, match="at most 1 KB"):
        read(data, name="t.xlsx")


@pytest.mark.parametrize(
    "laughs", ['<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>', '<!DOCTYPE x SYSTEM "y">']
)
def test_entities_that_grow_are_refused(laughs: str) -> None:
    data = _changed(
        _sheet(("a",), (1,)), _XML, lambda xml: xml.replace("<worksheet", laughs + "<worksheet", 1)
    )
    with pytest.raises(TableFileError, match="entities of its own"):
        read(data, name="t.xlsx")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["xl/workbook.bin"], "binary Excel file"),
        (["mimetype", "content.xml"], "OpenDocument"),
        (["word/document.xml"], "Word document"),
        (["a.csv", "b.csv"], "ZIP archive; in it is a.csv, b.csv"),
        ([], "in it is nothing"),
    ],
)
def test_other_archives_are_told_by_what_they_are(names: list[str], says: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(TableFileError, match=says):
        look(file.getvalue(), name="t.xlsx")


def test_every_cut_of_a_file_is_refused_in_words() -> None:
    data = _sheet(("a", "b"), (1, "x"))
    for end in range(4, len(data), 97):
        with pytest.raises(TableFileError):
            read(data[:end], name="t.xlsx")


def test_without_the_package_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    data = _sheet(("a",), (1,))
    with pytest.raises(MissingDependencyError, match="openpyxl") as missing:
        read(data, name="t.xlsx")
    assert missing.value.details["install"] == 'pip install "gguf-widgets[tables]"'
    with pytest.raises(MissingDependencyError):
        write(tmp_path / "t.xlsx", [{"a": 1}])
    assert not (tmp_path / "t.xlsx").exists()
