"""Finding conversations by the words in their titles and messages.

Promises: any text is a valid query; what is found is exactly what holds all its words. Words are
found without regard to case and accents, the last one already by its beginning while it is being
typed; "words in quotes" only side by side; text without spaces (Chinese, Japanese, Thai) and signs
(``=>``) anywhere. 10,000 messages take some hundredths of a second. Leaves to others: the tables
(`search_tables`, `search_index`), what a person sees of it (the widgets).
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from typing import Any, NamedTuple

import msgspec

from gguf_widgets.core.chat.types import Conversation, well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversation_rows import CONVERSATION, conversation_of
from gguf_widgets.core.store.search_index import catch_up, is_unspaced, without_marks
from gguf_widgets.core.store.store import Store

__all__ = ["MAX_QUERY_CHARS", "Found", "search"]

MAX_QUERY_CHARS = 1_000
_MAX_TERMS = 32

_SNIPPET_WORDS = 16
_SNIPPET_BEFORE, _SNIPPET_AFTER = 20, 60  # characters, where words cannot be counted
_ELLIPSIS = "…"

# "C++" and "F#" are other words than "C" and "F".
_NAMES_WITH_SIGNS = re.compile(r"\w[+#]+$")

_TERMS = re.compile(r'"([^"]*)("|$)|([^\s"]+)')


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that was found.

    Parameters
    ----------
    conversation : Conversation
    message_id : str or None
        The newest of its messages that hold the words; None if only its title does.
    snippet : list of (str, bool)
        Some words of that message, or the title, in pieces; true says that a piece was looked for.
    num_messages : int
        How many of its messages hold the words, those of other branches included.
    in_title : bool
        Whether its title holds them.
    """

    conversation: Conversation
    message_id: str | None
    snippet: list[tuple[str, bool]]
    num_messages: int = 0
    in_title: bool = False


class _Term(NamedTuple):
    """One word, or some side by side; `begins` if the last one may go on."""

    text: str
    begins: bool = False

    @property
    def is_words(self) -> bool:
        """Whether the index of words knows it: it has a letter or digit, and its words end."""
        return any(_is_word_char(char) for char in self.text) and not is_unspaced(self.text)

    def quoted(self) -> str:
        """Return it as the index's query language takes it."""
        text = self.text.replace('"', '""')
        return f'"{text}"{" *" if self.begins else ""}'


class _Query(NamedTuple):
    words: str  # for the index of words, "" if nothing is left for it
    anywhere: list[str]  # what is looked for anywhere, as it was typed


class _Place(NamedTuple):
    """The index of the words, the table of the texts and its column, and which rows count."""

    words: str
    table: str
    column: str
    where: str


_MESSAGES = _Place("message_words", "message", "content", "status <> 'streaming'")
_TITLES = _Place("conversation_words", "conversation", "title", "TRUE")


def search(store: Store, query: str, limit: int = 50, offset: int = 0) -> list[Found]:
    """Return the conversations that hold all words of `query`, see `Conversations.search`."""
    if not isinstance(query, str):
        raise InvalidValueError(f"What to look for must be a text, not {type(query).__name__}.")
    asked = _understood(query)
    if not asked.words and not asked.anywhere:
        return []
    catch_up(store)
    in_messages, for_messages = _matching(_MESSAGES, asked)
    in_titles, for_titles = _matching(_TITLES, asked)
    with store.reading() as connection:
        rows = connection.execute(
            f"WITH hit (num) AS ({in_messages}), title (num) AS ({in_titles}), "  # noqa: S608
            "best (conversation_id, num, how_many) AS ("
            "  SELECT conversation_id, max(message.num), count(*) FROM hit "
            "  CROSS JOIN message ON message.num = hit.num GROUP BY conversation_id) "
            f"SELECT conversation.num, best.num, best.how_many, "
            "conversation.num IN (SELECT num FROM title) AS in_title, "
            f"{', '.join(f'conversation.{name}' for name in CONVERSATION.split(', '))} "
            "FROM conversation LEFT JOIN best ON best.conversation_id = conversation.id "
            "WHERE deleted_at IS NULL AND (best.num IS NOT NULL OR in_title) "
            "ORDER BY in_title DESC, updated_at DESC, conversation.num DESC LIMIT ? OFFSET ?",
            (*for_messages, *for_titles, _bounded(limit), _bounded(offset)),
        ).fetchall()
        found = []
        for num, message_num, how_many, in_title, *rest in rows:
            message_id = None
            if message_num is None:
                snippet = _snippet(connection, _TITLES, num, asked)
            else:
                (message_id,) = connection.execute(
                    "SELECT id FROM message WHERE num = ?", (message_num,)
                ).fetchone()
                snippet = _snippet(connection, _MESSAGES, message_num, asked)
            found.append(
                Found(
                    conversation=conversation_of(tuple(rest)),
                    message_id=message_id,
                    snippet=snippet,
                    num_messages=how_many or 0,
                    in_title=bool(in_title),
                )
            )
        return found


def _bounded(number: int) -> int:
    return max(0, min(int(number), 2**31))


# -- what is asked ---------------------------------------------------------------------------------


def _understood(query: str) -> _Query:
    text = well_formed(query[:MAX_QUERY_CHARS]).replace("\0", " ")
    text = unicodedata.normalize("NFC", text)
    terms: list[_Term] = []
    for found in _TERMS.finditer(text):
        phrase, closed, word = found.groups()
        # What stands at the very end is still being typed; a quote or a space says it is not.
        at_end = found.end() == len(text) and not closed
        term = (phrase or word or "").strip()
        if term:
            terms.append(_Term(term, at_end and _may_go_on(term)))
    terms = terms[:_MAX_TERMS]
    return _Query(
        words=" AND ".join(term.quoted() for term in terms if term.is_words),
        anywhere=[
            term.text for term in terms if not term.is_words or _NAMES_WITH_SIGNS.search(term.text)
        ],
    )


def _may_go_on(term: str) -> bool:
    # A single letter begins half of all words.
    return len(term) > 1 and _is_word_char(term[-1])


def _is_word_char(char: str) -> bool:
    # What SQLite's tokenizer takes for part of a word.
    category = unicodedata.category(char)
    return category[0] in "LN" or category == "Co"


def _matching(place: _Place, asked: _Query) -> tuple[str, list[str]]:
    """Return the statement for the row numbers that hold everything asked, and its values."""
    index, table, column, where = place
    parts: list[str] = []
    values: list[str] = []
    if asked.words:
        parts.append(f"SELECT rowid FROM {index} WHERE {index} MATCH ?")  # noqa: S608 - our names
        values.append(asked.words)
    for text in asked.anywhere:
        if place is _MESSAGES and len(text) >= 3 and is_unspaced(text):
            parts.append("SELECT rowid FROM message_pieces WHERE message_pieces MATCH ?")
            values.append(_Term(text).quoted())
        else:
            # Too short for the index, or signs that no index holds: look at all.
            has_case = text.lower() != text.upper()
            looked_at = f"lower({column})" if has_case else column
            parts.append(f"SELECT num FROM {table} WHERE {where} AND instr({looked_at}, ?)")  # noqa: S608
            values.append(_ascii_lower(text) if has_case else text)
    return " INTERSECT ".join(parts), values


def _ascii_lower(text: str) -> str:
    """Return `text` as SQLite's `lower` makes it."""
    return "".join(char.lower() if char.isascii() else char for char in text)


# -- what is shown of it ---------------------------------------------------------------------------


def _snippet(connection: Any, place: _Place, num: int, asked: _Query) -> list[tuple[str, bool]]:
    index, table, column, _ = place
    if not asked.words:
        (text,) = connection.execute(
            f"SELECT {column} FROM {table} WHERE num = ?",  # noqa: S608 - our names
            (num,),
        ).fetchone()
        return _around(text, asked.anywhere)
    # Nothing that a text holds can be taken for these.
    mark = secrets.token_hex(8)
    (marked,) = connection.execute(
        f"SELECT snippet({index}, 0, ?, ?, ?, ?) "  # noqa: S608 - our names
        f"FROM {index} WHERE {index} MATCH ? AND rowid = ?",
        (f"<{mark}", f">{mark}", _ELLIPSIS, _SNIPPET_WORDS, asked.words, num),
    ).fetchone()
    pieces: list[tuple[str, bool]] = []
    for part in re.split(f"(?=[<>]{mark})", marked):
        opens = part.startswith(f"<{mark}")
        text = part[1 + len(mark) :] if opens or part.startswith(f">{mark}") else part
        if text:
            pieces.append((_short(without_marks(text)), opens))
    return pieces


def _short(text: str) -> str:
    # Sixteen "words" may be a page of base64.
    limit = _SNIPPET_BEFORE + _SNIPPET_AFTER
    if len(text) <= 2 * limit:
        return text
    return f"{text[:limit]} {_ELLIPSIS} {text[-limit:]}"


def _around(text: str, looked_for: list[str]) -> list[tuple[str, bool]]:
    """Return the place around the first of some texts, in pieces."""
    pattern = re.compile("|".join(map(re.escape, looked_for)), re.IGNORECASE)
    first = pattern.search(text)
    at = first.start() if first else 0
    start = max(0, at - _SNIPPET_BEFORE)
    end = max(first.end() if first else 0, min(len(text), at + _SNIPPET_AFTER))
    pieces = [(_ELLIPSIS, False)] if start else []
    for found in pattern.finditer(text, start, end):
        if found.start() > start:
            pieces.append((text[start : found.start()], False))
        pieces.append((found.group(), True))
        start = found.end()
    if start < end:
        pieces.append((text[start:end], False))
    if end < len(text):
        pieces.append((_ELLIPSIS, False))
    return pieces
