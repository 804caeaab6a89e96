"""A prompt for every row of a table: text with columns in it, in either of two syntaxes.

Promises: everything that can be known without the rows is refused when the template is read or
checked, and nothing is ever left unfilled in silence; the same template and the same row give the
same messages, on every machine; a template can be kept as plain JSON. Leaves to others: the two
syntaxes (`template_format`, `template_jinja`), how a value is written (`template_text`), what is
done about missing values (`missing`).

Which syntax
------------
``"format"``: ``Label this: {review}``. ``"jinja"``: ``Label this: {{ review }}``, with loops and
conditions. ``"auto"`` takes Jinja if the text has a ``{%``, or a ``{{`` followed by a
plain word and then by ``}}`` or by one of ``. [ ( | ~`` or a sign or word of comparison or
arithmetic; else format. Doubled braces around anything else stay what they are in a format, text:
``{{"label": "positive"}}`` is JSON, not Jinja. Where a guess could mislead, `check` refuses: a
template taken for Jinja that has a column of the table in single braces.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gguf_widgets.batch.missing import REFUSE, MissingRule, missing_columns
from gguf_widgets.batch.template_format import FormatText, Place
from gguf_widgets.core.conversation_input import Conversation, check_text, to_messages
from gguf_widgets.core.errors import InvalidValueError, RowError
from gguf_widgets.core.types import Message

if TYPE_CHECKING:
    from gguf_widgets.batch.template_jinja import JinjaText

__all__ = ["MAX_SOURCE_CHARS", "Syntax", "Template"]

Syntax = Literal["format", "jinja"]

MAX_SOURCE_CHARS = 1_000_000  # of all its messages together
_MAX_MESSAGES = 1000
_NUM_SHOWN = 20  # columns that a message lists

_JINJA = re.compile(
    r"\{%"
    r"|(?<!\{)\{\{-?\s*[^\W\d]\w*\s*"
    r"(?:-?\}\}|[.\[(|~*/%+<>]|-\s|[=!]=|(?:if|is|in|not|and|or)\s)"
)


class Template:
    """A prompt with columns in it; made by `parse`.

    Attributes
    ----------
    syntax : {"format", "jinja"}
    messages : list of Message
        The conversation whose contents are the templates; a text is one message of the user.
    columns : tuple of str
        The columns that it names, each once, in order of first use.
    whole_row : bool
        Whether it may use every column of the row, named or not: a Jinja template that goes through
        ``row``.
    """

    def __init__(self, messages: Sequence[Message], syntax: Syntax, *, guessed: bool) -> None:
        self.syntax = syntax
        self._messages = tuple((message["role"], message["content"]) for message in messages)
        self._guessed = guessed
        self._texts = [self._read(number) for number in range(len(messages))]
        self.columns = tuple(dict.fromkeys(name for text in self._texts for name in text.columns))
        self.whole_row = any(text.whole_row for text in self._texts)

    @classmethod
    def parse(cls, source: Any, syntax: str = "auto") -> Template:
        """Return the template of a text or of a conversation.

        Parameters
        ----------
        source : str, list of messages, or Template
            A text is one message of the user. In a list, each message is a dict with ``role`` and
            ``content``, and each content is a template: a system prompt, earlier turns, the
            question. All are in one syntax.
        syntax : {"auto", "format", "jinja"}, default "auto"
            See this module's own description.

        Raises
        ------
        InvalidValueError
            If it is no such thing, or a text has an error; `message_number`, `line` and `column`
            in its details say where, each counting from 1, as far as they are known.
        """
        if isinstance(source, Template):
            return source
        if syntax not in ("auto", "format", "jinja"):
            raise InvalidValueError(
                f'syntax={syntax!r:.60} is not "auto", "format" ({{column}}) or "jinja" '
                "({{ column }} with loops and conditions).",
                value=repr(syntax)[:60],
            )
        messages = _messages_of(source)
        if syntax == "auto":
            is_jinja = any(_JINJA.search(message["content"]) for message in messages)
            return cls(messages, "jinja" if is_jinja else "format", guessed=True)
        return cls(messages, "jinja" if syntax == "jinja" else "format", guessed=False)

    @property
    def messages(self) -> list[Message]:
        """The conversation whose contents are the templates."""
        return [Message(role=role, content=content) for role, content in self._messages]

    def _read(self, index: int) -> FormatText | JinjaText:
        content = self._messages[index][1]
        try:
            if self.syntax == "format":
                return FormatText(content)
            # Here, because Jinja is not needed by most and takes a moment to import.
            from gguf_widgets.batch.template_jinja import JinjaText

            return JinjaText(content)
        except InvalidValueError as error:
            raise InvalidValueError(
                self._where(index) + error.message, message_number=index + 1, **error.details
            ) from error

    def _where(self, index: int) -> str:
        """Return the words that say in which message something is, if there are several."""
        if len(self._messages) == 1:
            return ""
        return f"Message {index + 1} ({self._messages[index][0]}): "

    def columns_used(self, columns: Iterable[Any]) -> tuple[str, ...]:
        """Return the columns of a table that this template may use: those it names, or all."""
        if not self.whole_row:
            return self.columns
        return tuple(dict.fromkeys([*self.columns, *map(str, columns)]))

    def check(self, columns: Iterable[Any]) -> None:
        """Refuse the template if the table lacks a column that it names, or if it fails on any row.

        Parameters
        ----------
        columns : iterable
            The table's columns.

        Raises
        ------
        InvalidValueError
            With `unknown` (list of str), `nearest` (dict of str to str) and `columns` in its
            details.
        """
        known = dict.fromkeys(str(column) for column in columns)
        missing = [name for name in self.columns if name not in known]
        if missing:
            raise self._unknown(missing, list(known))
        if self._guessed:
            self._check_guess(set(known))
        for index, text in enumerate(self._texts):
            problem = None if isinstance(text, FormatText) else text.fails_always()
            if problem:
                raise InvalidValueError(self._where(index) + problem, message_number=index + 1)

    def _unknown(self, missing: list[str], known: list[str]) -> InvalidValueError:
        told = missing[:_NUM_SHOWN]
        nearest = {name: near for name in told if (near := _nearest(name, known))}
        words = []
        for name in told:
            index, place = self._place_of(name)
            where = str(place) if place.column else f"line {place.line}"
            if len(self._messages) > 1:
                where = f"message {index + 1}, {where}"
            near = f'; did you mean "{nearest[name]}"?' if name in nearest else ""
            words.append(f'"{_short(name)}" ({where}{near})')
        shown = ", ".join(f'"{_short(name)}"' for name in known[:_NUM_SHOWN]) or "none"
        more = f" and {len(known) - _NUM_SHOWN:,} more" if len(known) > _NUM_SHOWN else ""
        which = "a column" if len(missing) == 1 else f"{len(missing):,} columns"
        are = "is" if len(missing) == 1 else "are"
        listed = ", ".join(words) + (", ..." if len(missing) > len(told) else "")
        return InvalidValueError(
            f"The prompt uses {which} that {are} not in the table: {listed}. The table's columns "
            f"are: {shown}{more}.{self._advice(missing)}",
            unknown=missing,
            nearest=nearest,
            columns=known,
        )

    def _advice(self, missing: list[str]) -> str:
        if self.syntax == "format":
            return " Braces that are meant as text are doubled: {{ and }}."
        name = next((name for name in missing if self._is_set(name)), None)
        if name is None:
            return ""
        return (
            f' The template sets "{name}" itself, but not on every way to where it is used: what a '
            f"loop or a block sets ends with it. Set it before, as in {{% set {name} = none %}}; "
            "to keep a value beyond a loop, use namespace()."
        )

    def _is_set(self, name: str) -> bool:
        return any(not isinstance(text, FormatText) and text.sets(name) for text in self._texts)

    def _place_of(self, name: str) -> tuple[int, Place]:
        index = next(i for i, text in enumerate(self._texts) if name in text.columns)
        return index, self._texts[index].place_of(name)

    def _check_guess(self, columns: set[str]) -> None:
        for index, text in enumerate(self._texts):
            found = None if isinstance(text, FormatText) else text.unfilled(columns)
            if found is not None:
                name, line = found
                raise InvalidValueError(
                    f"{self._where(index)}The template is in Jinja, because it has tags in double "
                    f"braces, and so {{{name}}} in line {line} would stay as it is. Write "
                    f'{{{{ {name} }}}}; or say syntax="jinja" if that is what you want.',
                    message_number=index + 1,
                    line=line,
                    unfilled=name,
                )

    def render(self, row: Mapping[str, Any], missing: MissingRule = REFUSE) -> list[Message]:
        """Return the messages for one row.

        Parameters
        ----------
        row : mapping
            The row's values by column.
        missing : MissingRule, default `missing.REFUSE`
            What is done where a value that the template uses is missing. "refuse" and "skip" both
            raise here; `MissingRule.reason_to_skip` tells beforehand.

        Raises
        ------
        RowError
            If a value is missing, cannot be written, does not fit its format, or if the template
            fails on this row. `column` or `line` in its details say where.
        """
        names = self.columns_used(row)
        values = {name: _value(row, name) for name in names}
        gone = missing_columns(values, names)
        if gone and missing.action in ("refuse", "skip"):
            which = "column" if len(gone) == 1 else "columns"
            listed = ", ".join(f'"{name}"' for name in gone)
            raise RowError(
                f"This row has no value in {which} {listed}, which the prompt uses.",
                missing=list(gone),
            )
        messages = []
        for index, (role, _) in enumerate(self._messages):
            try:
                content = self._content(index, values, gone, missing)
                check_text(content, "The prompt")
            except (RowError, InvalidValueError) as error:
                raise RowError(
                    self._where(index) + error.message,
                    **{"message_number": index + 1, **error.details},
                ) from error
            messages.append(Message(role=role, content=content))
        return messages

    def _content(
        self, index: int, values: dict[str, Any], gone: tuple[str, ...], rule: MissingRule
    ) -> str:
        text = self._texts[index]
        if isinstance(text, FormatText):
            return text.render(values, dict.fromkeys(gone, rule.text))
        instead = rule.text if rule.action == "with" else None
        return text.render(values, dict.fromkeys(gone, instead))

    def shared_beginning(self) -> str:
        """Return the text that all rows have in common at the beginning, messages joined.

        It is computed once for all of them, and rows are ordered so that it is. In a Jinja template
        it reaches to the first thing that depends on the row.
        """
        return "\n".join(message["content"] for message in self.shared_messages())

    def shared_messages(self) -> list[Message]:
        """Return the messages that all rows have in common; of the last one, its beginning."""
        shared: list[Message] = []
        for (role, _), text in zip(self._messages, self._texts, strict=True):
            beginning, is_all = text.shared_beginning()
            if is_all or beginning:
                shared.append(Message(role=role, content=beginning))
            if not is_all:
                break
        return shared

    def to_dict(self) -> dict[str, Any]:
        """Return the template as plain JSON: equal for equal templates, however they were given."""
        return {"syntax": self.syntax, "messages": [dict(message) for message in self.messages]}

    @classmethod
    def from_dict(cls, data: Any) -> Template:
        """Return the template that `to_dict` was asked of.

        Raises
        ------
        InvalidValueError
            If the data are not from `to_dict`.
        """
        if not isinstance(data, Mapping) or set(data) != {"syntax", "messages"}:
            raise InvalidValueError(
                f"A stored template has a syntax and messages, and this is {data!r:.80}."
            )
        if data["syntax"] == "auto":
            raise InvalidValueError('A stored template is "format" or "jinja", not "auto".')
        return cls.parse(data["messages"], data["syntax"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Template):
            return NotImplemented
        return (self.syntax, self._messages) == (other.syntax, other._messages)

    def __hash__(self) -> int:
        return hash((self.syntax, self._messages))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Template.from_dict, (self.to_dict(),))

    def __repr__(self) -> str:
        beginning = _short(self._messages[-1][1])
        return f"<Template {self.syntax} {beginning!r} columns={list(self.columns)}>"


def _messages_of(source: Any) -> list[Message]:
    if not isinstance(source, str | list | tuple):
        raise InvalidValueError(
            "A prompt is a text, or a list of messages such as "
            '{"role": "user", "content": "Label this: {review}"}; '
            f"this is a {type(source).__name__}."
        )
    conversation: Conversation = source
    messages = to_messages(conversation)
    if len(messages) > _MAX_MESSAGES:
        raise InvalidValueError(
            f"The prompt has {len(messages):,} messages; it can have {_MAX_MESSAGES:,}.",
            limit=_MAX_MESSAGES,
        )
    length = sum(len(message["content"]) for message in messages)
    if length > MAX_SOURCE_CHARS:
        raise InvalidValueError(
            f"The prompt has {length:,} characters before any value is filled in; it can have "
            f"{MAX_SOURCE_CHARS:,}. Put long texts into a column.",
            num_characters=length,
            limit=MAX_SOURCE_CHARS,
        )
    if not any(message["content"].strip() for message in messages):
        raise InvalidValueError("The prompt is empty: write what the model is to do with a row.")
    return messages


def _value(row: Mapping[str, Any], name: str) -> Any:
    try:
        return row[name]
    except KeyError:
        pass
    # A table's columns may be numbers; a template names them by their text.
    for column, value in row.items():
        if str(column) == name:
            return value
    raise RowError(f'This row has no column "{_short(name)}", which the prompt uses.', column=name)


def _nearest(name: str, known: list[str]) -> str | None:
    plain = {_plain(column): column for column in reversed(known)}
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = difflib.get_close_matches(_plain(name)[:100], list(plain)[:1000], n=1)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return name.strip().casefold()


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "..."
