"""Whether an answer is the same as the one that was recorded, and where it is not.

Promises: pure functions. The same means the same text, status and values, and the same tokens where
both are known; an answer that was stopped is compared as far as it came. Leaves to others: why
(`changes`), asking (`replay`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from gguf_widgets.core.format import plain_text
from gguf_widgets.core.record.places import excerpt, first_place
from gguf_widgets.experiments.values import Answer

__all__ = ["State", "Verdict", "verdict_of"]

State = Literal["same", "different", "not repeated"]


class Verdict(NamedTuple):
    """What the comparison of two answers says.

    Attributes
    ----------
    state : {"same", "different", "not repeated"}
    words : str
        Where they differ, or why nothing was compared, as a sentence; "" if they are the same.
    character : int or None
        The first character of the text that differs.
    token : int or None
        The first token that differs; None where tokens are not known.
    """

    state: State
    words: str = ""
    character: int | None = None
    token: int | None = None


def verdict_of(then: Answer, now: Answer) -> Verdict:
    """Compare an answer with the one that it repeats."""
    if then.status == "waiting":
        return Verdict("not repeated", "It had not been answered when it was recorded.")
    if now.status == "waiting":
        return Verdict("not repeated", "It was not asked again.")
    if then.status != now.status:
        return Verdict("different", f"It was {_state_of(then)} then, and is {_state_of(now)} now.")
    if then.status != "done" and _kind(then) != _kind(now):
        return Verdict("different", f"It was {_state_of(then)} then, and is {_state_of(now)} now.")
    return _of_texts(then, now)


def _of_texts(then: Answer, now: Answer) -> Verdict:
    before, after = then.text or "", now.text or ""
    token = _first_token(then, now)
    character = first_place(before, after)
    if character is not None and _is_part(then, now, character):
        return Verdict("same")
    if character is None and token is None:
        if then.values != now.values:
            return Verdict("different", "The same text was read as other values.")
        return Verdict("same")
    if character is None:
        return Verdict("different", "The same text, written with other tokens.", None, token)
    where = f"character {character + 1:,}" if token is None else f"token {token + 1:,}"
    words = f"It differs from {where} on: {excerpt(before, character)} then, "
    return Verdict("different", f"{words}{excerpt(after, character)} now.", character, token)


def _first_token(then: Answer, now: Answer) -> int | None:
    if then.tokens is None or now.tokens is None:
        return None
    return first_place(then.tokens, now.tokens)


def _is_part(then: Answer, now: Answer, character: int) -> bool:
    """Say whether the one that was stopped is the beginning of the other."""
    shorter = then if len(then.text or "") < len(now.text or "") else now
    return shorter.finish_reason == "aborted" and character == len(shorter.text or "")


def _state_of(answer: Answer) -> str:
    if answer.status == "failed" and answer.error:
        return f"an error ({plain_text(str(answer.error.get('message')), 200)})"
    return {"done": "answered", "failed": "an error", "skipped": "left out"}.get(
        answer.status, answer.status
    )


def _kind(answer: Answer) -> str:
    return str((answer.error or {}).get("kind"))
