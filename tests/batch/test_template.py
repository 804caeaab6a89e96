"""A prompt for every row: which syntax, which columns, what is refused, what is kept."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.batch.missing import MissingRule
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import InvalidValueError, RowError


def user(content):
    return [{"role": "user", "content": content}]


def text_of(template, row, missing="refuse"):
    (message,) = template.render(row, MissingRule.parse(missing))
    return message["content"]


@pytest.mark.parametrize(
    ("source", "syntax", "columns"),
    [
        ("Label this: {review}", "format", ("review",)),
        ("Label this: {{ review }}", "jinja", ("review",)),
        ("Label this: {{review}}", "jinja", ("review",)),
        ("{{- review -}}", "jinja", ("review",)),
        ("{{ review|upper }}", "jinja", ("review",)),
        ("{{ row['customer name'] }}", "jinja", ("customer name",)),
        ("{{ order.total }}", "jinja", ("order",)),
        ("{{ price * 2 }}", "jinja", ("price",)),
        ("{{ größe if größe else '-' }}", "jinja", ("größe",)),
        ("{% if a %}x{% endif %}", "jinja", ("a",)),
        ("No columns at all", "format", ()),
        ('{{"label": "{review}"}}', "format", ("review",)),
        ('{{ "label": "{review}" }}', "format", ("review",)),
        ("{{label: {review}}}", "format", ("review",)),
        ("{{label, score}} {review}", "format", ("review",)),
        ("{{}} {review}", "format", ("review",)),
        ("{{{review}}}", "format", ("review",)),
        ('Answer as {"label": 1} for {{ review }}', "jinja", ("review",)),
        ("{#id} {review}", "format", ("#id", "review")),
    ],
)
def test_the_syntax_is_guessed_from_the_text(source, syntax, columns):
    template = Template.parse(source)
    assert (template.syntax, template.columns) == (syntax, columns)


def test_a_format_needs_neither_jinja_nor_pandas():
    program = (
        "import sys; from gguf_widgets.batch.template import Template; "
        "assert Template.parse('a {b}').render({'b': 1})[0]['content'] == 'a 1'; "
        "assert not {'jinja2', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_syntax_that_is_named_is_not_guessed():
    assert text_of(Template.parse("{{ a }} {a}", "format"), {"a": 1}) == "{ a } 1"
    assert text_of(Template.parse("{a}", "jinja"), {"a": 1}) == "{a}"
    with pytest.raises(InvalidValueError, match=r'syntax=.mustache. is not "auto", "format"'):
        Template.parse("{a}", "mustache")


def test_a_conversation_is_rendered_turn_by_turn():
    template = Template.parse(
        [
            {"role": "system", "content": "You label {kind}s."},
            {"role": "user", "content": "Great!"},
            {"role": "assistant", "content": "positive"},
            {"role": "user", "content": "{text}"},
        ]
    )
    assert template.columns == ("kind", "text")
    assert template.render({"kind": "review", "text": "Bad.", "other": 1}) == [
        {"role": "system", "content": "You label reviews."},
        {"role": "user", "content": "Great!"},
        {"role": "assistant", "content": "positive"},
        {"role": "user", "content": "Bad."},
    ]


def test_one_message_in_jinja_makes_the_whole_conversation_jinja():
    template = Template.parse([*user("{a}"), *user("{{ b }}")])
    assert (template.syntax, template.columns) == ("jinja", ("b",))
    with pytest.raises(
        InvalidValueError, match=r"^Message 1 \(user\): .* \{a\} in line 1 would stay"
    ):
        template.check(["a", "b"])
    template.check(["b"])  # no such column: it can only be meant as text


@pytest.mark.parametrize("braces", ["{a}", "{a:.2f}", "{a!s}", 'x {"y": {a}}'])
def test_a_column_that_a_guess_would_leave_unfilled_is_refused(braces):
    source = "first\n{{ b }} " + braces
    with pytest.raises(InvalidValueError, match="line 2") as caught:
        Template.parse(source).check(["a", "b"])
    assert caught.value.details["unfilled"] == "a"
    Template.parse(source, "jinja").check(["a", "b"])


# Columns.


def test_an_unknown_column_is_refused_with_the_nearest_and_with_those_there_are():
    template = Template.parse("{reviw}\n{Note} {total} {reviw}")
    with pytest.raises(InvalidValueError) as caught:
        template.check(["id", "review", "note"])
    assert caught.value.message == (
        'The prompt uses 3 columns that are not in the table: "reviw" (line 1, position 1; did you '
        'mean "review"?), "Note" (line 2, position 1; did you mean "note"?), "total" (line 2, '
        'position 8). The table\'s columns are: "id", "review", "note". Braces that are meant as '
        "text are doubled: {{ and }}."
    )
    assert caught.value.details == {
        "unknown": ["reviw", "Note", "total"],
        "nearest": {"reviw": "review", "Note": "note"},
        "columns": ["id", "review", "note"],
    }


def test_of_many_columns_some_are_listed():
    with pytest.raises(InvalidValueError, match='"c19" and 80 more'):
        Template.parse("{x}").check([f"c{number}" for number in range(100)])


def test_an_unknown_name_of_a_later_message_is_told_there():
    template = Template.parse([*user("{a}"), *user("x\n{b}")])
    with pytest.raises(InvalidValueError, match=r'"b" \(message 2, line 2, position 1\)'):
        template.check(["a"])


def test_a_name_that_only_some_ways_set_is_explained():
    template = Template.parse("{% if a %}{% set b = 1 %}{% endif %}{{ b }}")
    with pytest.raises(InvalidValueError, match=r'sets "b" itself, but not on every way'):
        template.check(["a"])
    template.check(["a", "b"])


def test_columns_that_are_numbers_are_named_by_their_text():
    frame = pd.DataFrame([[1, "x"]])
    template = Template.parse("{0} {1}")
    template.check(frame.columns)
    assert text_of(template, frame.iloc[0].to_dict()) == "1 x"


def test_a_row_without_the_column_is_an_error_of_the_row():
    with pytest.raises(RowError, match='no column "b"') as caught:
        Template.parse("{a}{b}").render({"a": 1})
    assert caught.value.details["column"] == "b"


def test_the_whole_row_uses_every_column():
    template = Template.parse(
        "{% for name, value in row.items() %}{{ name }}={{ value }};{% endfor %}"
    )
    assert template.columns == ()
    assert template.columns_used(["a", "b", 3]) == ("a", "b", "3")
    assert Template.parse("{a}").columns_used(["a", "b"]) == ("a",)
    assert text_of(template, {"a": 1, "b": None}, "empty") == "a=1;b=;"
    with pytest.raises(RowError, match='no value in column "b"'):
        template.render({"a": 1, "b": None})


# Missing values.


@pytest.mark.parametrize("missing", ["refuse", "skip"])
@pytest.mark.parametrize("gap", [None, float("nan"), pd.NA, pd.NaT, np.float32("nan")], ids=repr)
@pytest.mark.parametrize("source", ["{a} {b:.2f}", "{{ a }} {{ b }}"])
def test_a_missing_value_is_never_written_unless_somebody_said_how(source, gap, missing):
    template = Template.parse(source)
    with pytest.raises(RowError, match='no value in column "b"') as caught:
        template.render({"a": 1, "b": gap, "c": None}, MissingRule.parse(missing))
    assert caught.value.details["missing"] == ["b"]


@pytest.mark.parametrize("source", ["{a}|{b:.2f}", "{{ a }}|{{ b }}", "{{ row['a'] }}|{{ row.b }}"])
def test_a_missing_value_is_written_as_was_chosen(source):
    template = Template.parse(source)
    row = {"a": "x", "b": pd.NA}
    assert text_of(template, row, "empty") == "x|"
    assert text_of(template, row, {"with": "unknown"}) == "x|unknown"


def test_conditions_see_what_is_missing():
    template = Template.parse("{% if note %}Note: {{ note }}{% else %}No note{% endif %}")
    assert text_of(template, {"note": float("nan")}, "empty") == "No note"
    assert text_of(template, {"note": ""}, "empty") == "No note"
    assert text_of(template, {"note": None}, {"with": "lost"}) == "Note: lost"


# Bad input.


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "A prompt is a text, or a list"),
        (None, "A prompt is a text, or a list"),
        (b"x", "A prompt is a text, or a list"),
        ({"role": "user", "content": "x"}, "A prompt is a text, or a list"),
        ([], "empty"),
        ("", "The prompt is empty"),
        (" \n", "The prompt is empty"),
        ([{"role": "wizard", "content": "x"}], "role 'wizard'"),
        ([{"role": "user"}], "must have role and content"),
        (["x"], "Message 1 is a str"),
        ("x" * 1_000_001, "1,000,001 characters before any value"),
        (user("x") * 1001, "1,001 messages"),
        ("a \ud800 b", "half a character"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_prompt_is_refused(source, words):
    with pytest.raises(InvalidValueError, match=words):
        Template.parse(source)


def test_an_error_says_in_which_message_it_is():
    with pytest.raises(
        InvalidValueError, match=r"^Message 2 \(user\): There is a \{ that"
    ) as caught:
        Template.parse([{"role": "system", "content": "x"}, *user("ok\n {a")])
    assert caught.value.details == {"message_number": 2, "line": 2, "column": 2}

    template = Template.parse([{"role": "system", "content": "x"}, *user("\n{{ a / 0 }}")])
    with pytest.raises(RowError, match=r"^Message 2 \(user\): Line 2 of the template") as failed:
        template.render({"a": 1})
    assert failed.value.details == {"message_number": 2, "line": 2}


@pytest.mark.parametrize("source", ["{a}", "{{ a }}"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"bytes", r'Column "a" holds bytes \(5\), not text'),
        (object(), "type object"),
        ("half \ud83d", "half a character"),
        ("x" * 10_000_000, "gets too long|prompt of more than"),
    ],
    ids=["bytes", "object", "surrogate", "10 MB"],
)
def test_a_cell_that_cannot_be_sent_is_the_rows_error(source, value, words):
    with pytest.raises(RowError, match=words):
        Template.parse(source).render({"a": value})


@given(st.text(), st.sampled_from(["{a}", "{{ a }}", "{{ row['a'] }}", "{a!s}"]))
def test_any_text_arrives_as_it_is(value, source):
    assert text_of(Template.parse(source), {"a": value}) == value


def test_emoji_and_right_to_left_text_and_code_arrive_as_they_are():
    value = "שלום 👩‍👩‍👧 {x} {{ y }} {% z %} \u202e</s> \x00 %s"
    assert text_of(Template.parse("<{a}>"), {"a": value}) == f"<{value}>"
    assert text_of(Template.parse("<{{ a }}>"), {"a": value}) == f"<{value}>"


def test_a_frames_rows_print_alike_whatever_their_column_became():
    whole = pd.DataFrame({"n": [1, 2], "x": [0.5, 2.0]})
    gappy = pd.DataFrame({"n": [1, 2, None], "x": [0.5, 2.0, None]})
    nullable = whole.convert_dtypes()
    for source in ("{n} {x}", "{{ n }} {{ x }}"):
        template = Template.parse(source)
        texts = [
            [text_of(template, row) for row in frame.head(2).to_dict("records")]
            for frame in (whole, gappy, nullable)
        ]
        assert texts == [["1 0.5", "2 2"]] * 3


# What is kept.


@pytest.mark.parametrize(
    "source",
    ["a {b}", "a {{ b }}", [{"role": "system", "content": "x"}, *user("{b}")], "{{ row }}"],
)
def test_a_template_can_be_kept_as_json_and_is_the_same_afterwards(source):
    template = Template.parse(source)
    kept = json.loads(json.dumps(template.to_dict()))
    again = Template.from_dict(kept)
    assert again == template == pickle.loads(pickle.dumps(template))  # noqa: S301 - just made
    assert hash(again) == hash(template)
    assert again.to_dict() == template.to_dict() == kept
    assert again.render({"b": 1}) == template.render({"b": 1})
    assert Template.parse(template) is template


def test_equal_prompts_are_equal_however_they_were_given():
    assert Template.parse("a {b}") == Template.parse(user("a {b}"), "format")
    assert Template.parse("a {b}").to_dict() == Template.parse(user("a {b}")).to_dict()
    assert Template.parse("a {b}") != Template.parse("a {b}", "jinja")
    assert Template.parse("a {b}") != "a {b}"


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"syntax": "format"},
        {"syntax": "auto", "messages": user("x")},
        {"syntax": "format", "messages": 3},
        [1],
    ],
)
def test_what_was_never_kept_is_refused(data):
    with pytest.raises(InvalidValueError):
        Template.from_dict(data)


def test_changing_what_is_handed_out_changes_nothing():
    template = Template.parse("{a}")
    template.messages[0]["content"] = "changed"
    template.to_dict()["messages"][0]["content"] = "changed"
    assert text_of(template, {"a": 1}) == "1"


# What all rows share.


def test_the_beginning_that_all_rows_share():
    assert (
        Template.parse("Label this: {a} and {{b}}", "format").shared_beginning() == "Label this: "
    )
    assert Template.parse("{a} x").shared_beginning() == ""
    assert Template.parse("no columns").shared_beginning() == "no columns"
    template = Template.parse(
        [{"role": "system", "content": "Be brief."}, *user("Label {a}"), *user("never shared")]
    )
    assert template.shared_messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Label "},
    ]
    assert template.shared_beginning() == "Be brief.\nLabel "


PIECES = st.lists(st.sampled_from(["{a}", "{b!s}", "x", "{{", "}}", "\n", "{a:>3}"])).map("".join)


@given(st.lists(PIECES, min_size=1, max_size=3).filter(lambda texts: any(t.strip() for t in texts)))
def test_every_row_begins_with_the_messages_that_are_shared(texts):
    template = Template.parse([user(text)[0] for text in texts], "format")
    shared = template.shared_messages()
    for row in ({"a": 1, "b": 2}, {"a": "{", "b": ""}):
        messages = template.render(row)
        assert messages[: max(len(shared) - 1, 0)] == shared[:-1]
        if shared:
            content = messages[len(shared) - 1]["content"]
            assert content.startswith(shared[-1]["content"])


def test_a_template_shows_what_it_is():
    assert repr(Template.parse("Label: {a}")) == "<Template format 'Label: {a}' columns=['a']>"
