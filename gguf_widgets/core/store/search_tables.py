"""The tables that full-text search looks into.

Promises: whatever changes a title or a message, by whatever way, is noted in the same transaction.
Leaves to others: taking up what was noted (`search_index`), asking (`conversation_search`), when
the tables are made (`migrations`). `STATEMENTS` is part of a migration: it never changes.

There is one index of words (accents do not count), and one of every three characters in a row for
writing that has no spaces between words.
"""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS: tuple[str, ...] = (
    """
    CREATE VIRTUAL TABLE message_words USING fts5 (
        content, tokenize = 'unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE VIRTUAL TABLE message_pieces USING fts5 (content, tokenize = 'trigram')
    """,
    """
    CREATE VIRTUAL TABLE conversation_words USING fts5 (
        title, tokenize = 'unicode61 remove_diacritics 2'
    )
    """,
    # What has changed since the indexes were brought up to date. No trigger writes into an index:
    # SQLite lets a file's own triggers do that only if everything in the file is trusted.
    "CREATE TABLE message_unsearched (num INTEGER PRIMARY KEY)",
    "CREATE TABLE conversation_unsearched (num INTEGER PRIMARY KEY)",
    # An answer is findable when it has ended: until then it changes four times a second.
    """
    CREATE TRIGGER message_added AFTER INSERT ON message WHEN new.status <> 'streaming'
    BEGIN
        INSERT OR IGNORE INTO message_unsearched VALUES (new.num);
    END
    """,
    """
    CREATE TRIGGER message_changed AFTER UPDATE OF content, status ON message
        WHEN new.status <> 'streaming'
            AND (old.status = 'streaming' OR old.content <> new.content)
    BEGIN
        INSERT OR IGNORE INTO message_unsearched VALUES (new.num);
    END
    """,
    """
    CREATE TRIGGER message_removed AFTER DELETE ON message
    BEGIN
        INSERT OR IGNORE INTO message_unsearched VALUES (old.num);
    END
    """,
    """
    CREATE TRIGGER conversation_added AFTER INSERT ON conversation
    BEGIN
        INSERT OR IGNORE INTO conversation_unsearched VALUES (new.num);
    END
    """,
    """
    CREATE TRIGGER conversation_renamed AFTER UPDATE OF title ON conversation
        WHEN new.title <> old.title
    BEGIN
        INSERT OR IGNORE INTO conversation_unsearched VALUES (new.num);
    END
    """,
    """
    CREATE TRIGGER conversation_removed AFTER DELETE ON conversation
    BEGIN
        INSERT OR IGNORE INTO conversation_unsearched VALUES (old.num);
    END
    """,
    # The conversations that are there already.
    "INSERT INTO message_unsearched SELECT num FROM message",
    "INSERT INTO conversation_unsearched SELECT num FROM conversation",
)
