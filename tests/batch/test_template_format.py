"""Prompts with columns in single braces."""

from __future__ import annotations

import contextlib
import datetime as dt
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gguf_widgets.batch.template_format import FormatText
from gguf_widgets.core.errors import InvalidValueError, RowError


def render(source, **values):
    return FormatText(source).render(values, {})


class Whole(string.Formatter):
    """str.format, but a field's whole name is looked up as it is written."""

    def get_field(self, field_name, args, kwargs):
        return kwargs[field_name], field_name


BRACES = st.text(alphabet="{}{}ab:! .[]\n")


@given(BRACES)
@example("{a[b:c]}")
@example("{{{a}}}")
@example("{a!s:>5}")
@example("{[}")
def test_what_is_accepted_means_what_it_means_to_python(source):
    try:
        template = FormatText(source)
    except InvalidValueError as error:
        line, column = error.details["line"], error.details["column"]
        assert source.split("\n")[line - 1][column - 1] in "{}"
        return
    values = {name: f"<{name}>" for name in template.columns}
    fields = [part for part in string.Formatter().parse(source) if part[1] is not None]
    assert list(template.columns) == list(dict.fromkeys(field[1] for field in fields))
    if all(not field[2] for field in fields):
        assert template.render(values, {}) == Whole().vformat(source, (), values)


@given(BRACES)
def test_what_python_cannot_read_is_refused(source):
    try:
        list(string.Formatter().parse(source))
    except ValueError:
        with pytest.raises(InvalidValueError):
            FormatText(source)


@given(st.text())
def test_doubled_braces_keep_any_text_as_it_is(text):
    source = text.replace("{", "{{").replace("}", "}}")
    template = FormatText(source)
    assert (template.render({}, {}), template.columns) == (text, ())
    assert template.shared_beginning() == (text, True)


@given(st.text())
def test_braces_in_a_value_are_text(value):
    assert render("a {x} b {x}", x=value) == f"a {value} b {value}"


NAMES = ["customer name", "price.eur", "0", "größe", "a[0]", "naïve-🙂", "__class__", " padded "]


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_field_is_the_columns_name(name):
    template = FormatText(f"x {{{name}}} y {{{name}:>12}}")
    assert template.columns == (name,)
    assert template.render({name: "v"}, {}) == f"x v y {'v':>12}"


def test_nothing_of_a_value_can_be_reached():
    template = FormatText("{a.__class__.__init__.__globals__}{a[0]}")
    assert template.columns == ("a.__class__.__init__.__globals__", "a[0]")


FORMATS = [
    ("{x:.2f}", 3, "3.00"),
    ("{x:.2f}", np.float32(2.5), "2.50"),
    ("{x:d}", 3.0, "3"),
    ("{x:,}", 3000.0, "3,000"),
    ("{x:>5}", 3.0, "    3"),
    ("{x:>5}", 2.5, "  2.5"),
    ("{x:.3}", 3.0, "3.0"),
    ("{x:%}", 0.5, "50.000000%"),
    ("{x:.0%}", 1.0, "100%"),
    ("{x:>6}", True, "  True"),
    ("{x:d}", True, "1"),
    ("{x:.3}", "abcdef", "abc"),
    ("{x!s:>5}", 3.0, "    3"),
    ("{x:.4}", [1, 2, 3], "[1, "),
    ("{x:%d %B %Y}", pd.Timestamp("2026-03-01"), "01 March 2026"),
    ("{x:%H:%M}", dt.time(14, 30), "14:30"),
    ("{x:>12}", dt.date(2026, 3, 1), "  2026-03-01"),
    ("{x:>16}", dt.timedelta(days=1, hours=2), "  1 day, 2:00:00"),
]


@pytest.mark.parametrize(("source", "value", "text"), FORMATS)
def test_formats(source, value, text):
    assert render(source, x=value) == text


@pytest.mark.parametrize(
    ("source", "value", "words"),
    [
        ("{x:.2f}", "3.5", r'"\.2f" does not fit column "x", which holds text here: 3\.5 .*to_num'),
        ("{x:%d %B}", "2026-03-01", "to_datetime"),
        ("{x:d}", 3.5, 'format "d" does not fit column "x", which holds a number here'),
        ("{x:zzz}", 3, "a whole number here: 3"),
        ("{x:.2f}", [1], "holds a list"),
        ("{x:q}", dt.date(2026, 3, 1), "holds a date"),
        ("{x:.2f}", "y" * 1000, r"y{40}\.\.\."),
    ],
)
def test_a_format_that_does_not_fit_a_value_is_the_rows_error(source, value, words):
    with pytest.raises(RowError, match=words) as caught:
        render(source, x=value)
    assert caught.value.details["column"] == "x"
    assert caught.value.details["spec"] == source[3:-1]


@pytest.mark.parametrize("value", [b"x", object()])
def test_a_value_without_a_text_is_the_rows_error(value):
    for source in ("{x}", "{x:>5}", "{x!s}"):
        with pytest.raises(RowError, match=r'^Column "x" holds '):
            render(source, x=value)


@pytest.mark.parametrize(
    ("source", "place", "words"),
    [
        ('Answer with\n{"label": "positive"}', (2, 1), r"hold no column's name .* double each"),
        ('x {\n  "a": {review}}', (1, 3), "double each"),
        ("{'a': 1}", (1, 1), "double each"),
        ("{label: {review}}", (1, 1), "double each"),
        ("a {review", (1, 3), "never closed"),
        ("a {", (1, 3), "never closed"),
        ("a }", (1, 3), r"a \} with no \{"),
        ("{{a}", (1, 4), r"a \} with no \{"),
        ("{}", (1, 1), "name no column"),
        ("{ }", (1, 1), "name no column"),
        ("{:>5}", (1, 1), "no column's name|name no column"),
        ("{a!r}", (1, 1), "Python code"),
        ("{a!x}", (1, 1), r'"!x", which means nothing here.*row\['),
        ("x {a[}", (1, 3), r"The \[ in .* is not closed"),
        ("{a:{b}}", (1, 4), "has braces in it"),
        ("{a:>9999999}", (1, 1), "The most is 1,000,000"),
        ("{a:.99999999999999999999f}", (1, 1), "The most is 1,000,000"),
    ],
)
def test_what_is_no_template_is_refused_by_its_place(source, place, words):
    with pytest.raises(InvalidValueError, match=words) as caught:
        FormatText(source)
    assert (caught.value.details["line"], caught.value.details["column"]) == place
    assert f"(line {place[0]}, position {place[1]})" in caught.value.message


def test_a_cell_of_ten_megabytes_is_told_and_can_be_cut():
    cell = "🙂" * 10_000_000
    with pytest.raises(RowError, match=r'column "x", which adds 10,000,000 .* write \{x:\.2000\}'):
        render("Label: {x}", x=cell)
    assert render("Label: {x:.3}", x=cell) == "Label: 🙂🙂🙂"


def test_many_columns_of_padding_do_not_add_up():
    with pytest.raises(RowError, match="gets too long"):
        render("{x:>1000000}" * 1000, x="a")


def test_what_stands_in_for_a_missing_value_is_written_without_its_format():
    template = FormatText("{price:.2f} {note:>9}")
    assert template.render({"price": None, "note": "x"}, {"price": "unknown"}) == (
        "unknown         x"
    )


@pytest.mark.timeout(30)
@pytest.mark.parametrize("source", ["{{" * 400_000, "{a}" * 300_000, "{ab" * 300_000, "{" * 9999])
def test_reading_a_long_template_takes_no_longer_for_its_braces(source):
    with contextlib.suppress(InvalidValueError):
        FormatText(source)
