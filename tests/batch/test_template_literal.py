"""Plain messages as a template (0.8 s): whatever stands in them stays what it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.template import MAX_SOURCE_CHARS, Template
from gguf_widgets.batch.template_literal import Mark, as_template
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import Message

PIECES = list("{}{}%#-+ \n\r\taé1\"'.|([]:\\")
PIECES += ["  ", "row", "review", "raw", "endraw", "if ", "{%", "%}", "{{", "}}"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join).filter(str.strip)


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.data())
@example(["{% raw %}{% endraw %} {review}\n{{ endraw }}\n"], None)
@example(["  {review}\n{%", '{"label": {review}}'], None)
def test_what_is_made_of_texts_fills_in_to_the_same_texts(
    texts: list[str], data: st.DataObject | None
) -> None:
    last, marks = texts[-1], []
    if data is not None and data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(last) - 1))
        marks = [Mark(start, data.draw(st.integers(start + 1, len(last))), "review")]
    messages = [Message(role="user", content=text) for text in texts]
    template = Template.parse(as_template(messages, marks))
    values = {mark.column: last[mark.start : mark.end] for mark in marks}
    assert [message["content"] for message in template.render(values)] == texts
    assert template.columns == tuple(values)
    # A table may have columns of all the names that stand in braces: it is not asked about them.
    names = {name for text in texts for name in re.findall(r"\{([^{}\r\n\"']+)\}", text)}
    template.check({"review", *(name for name in names if name.strip() == name)})


def test_what_is_simple_stays_simple() -> None:
    assert as_template(user("Hello")) == user("Hello")
    assert as_template(user('As JSON: {"a": 1}')) == user('As JSON: {{"a": 1}}')
    assert as_template(user("Fill in {name}.")) == user("Fill in {% raw %}{name}{% endraw %}.")
    marks = [Mark(0, 4, "what"), Mark(8, 11, "how")]
    assert as_template(user("Soup is bad"), marks) == user("{what} is {how}")


@pytest.mark.parametrize("column", ["customer name", "price.eur", "0", 'the "best" one', "a:b"])
def test_a_column_may_have_any_name(column: str) -> None:
    template = Template.parse(as_template(user("Soup {x}?"), [Mark(0, 4, column)]))
    assert template.columns == (column,)
    assert template.render({column: "Fish"}) == user("Fish {x}?")


def test_what_cannot_be_a_template_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="There is no message"):
        as_template([])
    with pytest.raises(InvalidValueError) as caught:
        as_template(user("{" * MAX_SOURCE_CHARS))
    assert caught.value.details["limit"] == MAX_SOURCE_CHARS
