"""Telling what a model thought from what it answered, by the marks that models put around it.

Promises: no text is lost: what the marks hold is thinking, everything else is the answer; a text
that comes in pieces is split exactly as the whole is, and a mark that has come in part is held back
until it is clear what it is; marks inside a code block are code. Leaves to others: showing it
(`widgets.markdown`), and what is sent to a model in later turns (`core.chat.prompt`).

A mark that opens thinking counts at the beginning of a text (or of an answer after thinking), and
alone on a line; one that closes it counts anywhere outside of code. Some templates open the
thinking themselves, in the prompt: then the text holds only the closing mark. Pass ``opened=True``
if that is known; if it is not, a closing mark at the beginning of a line says that all before it
was thinking.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

__all__ = ["Section", "ThinkingSplitter", "split_thinking", "strip_thinking"]

_HARMONY_ENDS = ("<|end|>", "<|call|>")
# Opening mark -> closing marks. The models that write them are named where it is not obvious.
_THINKING: dict[str, tuple[str, ...]] = {
    "<think>": ("</think>",),  # DeepSeek, Qwen, GLM, SmolLM, Hunyuan, MiniMax, ...
    "<thinking>": ("</thinking>",),
    "<thought>": ("</thought>",),
    "<reasoning>": ("</reasoning>",),
    "<seed:think>": ("</seed:think>",),  # Seed-OSS
    "[THINK]": ("[/THINK]",),  # Magistral
    "◁think▷": ("◁/think▷",),  # Kimi
    "<|START_THINKING|>": ("<|END_THINKING|>",),  # Command A
    "<|begin_of_thought|>": ("<|end_of_thought|>",),  # Sky-T1 and its like
    "<|inner_prefix|>": ("<|inner_suffix|>",),  # Apertus
    "<unused94>thought": ("<unused95>",),  # MedGemma
    "<|channel>thought": ("<channel|>",),  # Gemma 4
    # gpt-oss ("harmony"): what is not in the channel "final" is not meant for the reader.
    **{
        f"{begin}<|channel|>{name}<|message|>": _HARMONY_ENDS
        for begin in ("", "<|start|>assistant")
        for name in ("analysis", "commentary")
    },
}
# Around an answer, after thinking: left out. Opening mark -> closing mark.
_ANSWER: dict[str, str] = {
    "<answer>": "</answer>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    "<|channel|>final<|message|>": "<|return|>",
    "<|start|>assistant<|channel|>final<|message|>": "<|return|>",
}
# gpt-oss again, where the runtime has left its control tokens out: "analysisThe user asks ...".
# Only at the beginning, before a capital letter.
_BARE: dict[str, tuple[str, ...]] = {"analysis": ("assistantfinal",)}
# Closing marks that may stand alone, where the template opened the thinking.
_LONE = tuple(
    dict.fromkeys(
        mark
        for marks in _THINKING.values()
        for mark in marks
        if mark not in ("<|end|>", "<|call|>")
    )
)
_LONGEST = max(map(len, [*_THINKING, *_LONE, *_ANSWER, *_ANSWER.values(), "assistantfinal"]))
# More than these are no thinking but a text made to be slow; their marks stay text.
MAX_SECTIONS = 100
# From so many characters on, lines in which nothing can begin or end are passed over together.
DULL_CHARS = 1_000

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_FENCE_LINE = 1_000  # a longer line begins or ends no code block


class Section(NamedTuple):
    """One part of a text.

    Parameters
    ----------
    is_thinking : bool
    text : str
        Without the marks.
    is_closed : bool
        False for thinking whose closing mark has not come.
    """

    is_thinking: bool
    text: str
    is_closed: bool


def split_thinking(text: str, *, opened: bool = False) -> list[Section]:
    """Split a text into what was thought and what was answered, in order.

    Parameters
    ----------
    text : str
    opened : bool, default False
        Whether the text begins inside thinking, because the template opened it.

    Returns
    -------
    list of Section
        No two answers in a row; an answer of nothing but white space is left out.
    """
    splitter = ThinkingSplitter(opened=opened)
    splitter.feed(text)
    splitter.finish()
    return [part for part in splitter.sections() if part.is_thinking or part.text.strip()]


def strip_thinking(text: str, *, opened: bool = False) -> str:
    """Return only what was answered; a text without thinking comes back as it is.

    This is what belongs into later turns: the templates of thinking models leave the rest out, too.
    """
    parts = split_thinking(text, opened=opened)
    if not any(part.is_thinking for part in parts):
        return text
    return "\n\n".join(part.text.strip() for part in parts if not part.is_thinking)


class ThinkingSplitter:
    """Splits a text that grows, at a cost in proportion to what is new.

    Parameters
    ----------
    opened : bool, default False
        Whether the text begins inside thinking.

    Attributes
    ----------
    num_restarts : int
        How often what was said before had to be taken back. It grows when a closing mark shows
        that what came before it was thinking, and at the end of a text whose code block was never
        closed.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._opened = opened
        self._trust_fences = True
        self.num_restarts = 0
        self._whole: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._parts: list[_Part] = []
        self._closers: tuple[str, ...] = ()  # of the thinking that is open; () in an answer
        self._answer_closer = ""
        self._buffer = ""
        self._line = ""  # of the line being read, what has been passed on (at most _FENCE_LINE)
        self._last = ""  # the last character passed on
        self._fence = ""  # the mark of the code block that is open
        self._is_fresh = True  # nothing but white space since the beginning or the last thinking
        self._has_closer_in_code = False
        if self._opened:
            self._begin(_LONE)

    def feed(self, text: str) -> None:
        """Add text at the end."""
        self._whole.append(text)
        self._buffer += text
        self._run(final=False)

    def finish(self) -> None:
        """Take the text as complete."""
        self._run(final=True)
        if self._closers and self._fence and self._has_closer_in_code and self._trust_fences:
            # The code block never ended: it was the thinking that did.
            self._trust_fences = False
            self._restart(opened=self._opened)
            self._run(final=True)

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends inside thinking."""
        return bool(self._closers)

    def sections(self, start: int = 0) -> list[Section]:
        """Return the sections so far, from number `start` on; the last one may still grow."""
        return [Section(p.is_thinking, p.text(), p.is_closed) for p in self._parts[start:]]

    # -- reading ----------------------------------------------------------------------------------

    def _run(self, *, final: bool) -> None:
        at = 0
        while at < len(self._buffer):
            text, restarts = self._buffer, self.num_restarts
            if not self._line:
                moved = self._at_line_start(text, at, final=final)
                if self.num_restarts > restarts:
                    at = 0
                    continue
                if moved is None:
                    break  # it may become a mark
                if moved > at:
                    at = moved
                    continue
                dull = self._dull(text, at)
                if dull > at:
                    self._pass_on(text[at:dull])
                    at = dull
                    continue
            end = text.find("\n", at) + 1 or len(text)
            stop, mark = self._find_closer(text, at, end, final=final)
            self._pass_on(text[at:stop])
            at = stop + len(mark)
            if mark:
                self._close()
            elif stop < end:
                break  # the rest may become a mark
        self._buffer = self._buffer[at:]

    def _dull(self, text: str, at: int) -> int:
        """Return up to where there are only whole lines in which nothing can begin or end."""
        end = text.rfind("\n") + 1
        if end - at < DULL_CHARS or (at and text[at - 1] != "\n"):
            return at
        found = _pattern(self._closing_now()).search(text, at, end)
        return end if found is None else text.rfind("\n", at, found.start()) + 1 or at

    def _closing_now(self) -> tuple[str, ...]:
        """Return the closing marks that count now."""
        return self._closers or ((self._answer_closer,) if self._answer_closer else ())

    def _at_line_start(self, text: str, at: int, *, final: bool) -> int | None:
        """Look for a mark that counts only here; return where to go on, or None to wait."""
        begin = at
        while begin < len(text) and text[begin] in " \t":
            begin += 1
        if begin == len(text):
            return at if final or begin - at > _LONGEST else None
        head = text[begin : begin + _LONGEST]
        if self._fence or head[0] == "\n":
            return at
        marks: tuple[str, ...]
        if self._closers:
            # A model may write the opening mark though the template has.
            if not (self._is_fresh and self._opened and len(self._parts) == 1):
                return at
            marks = tuple(_THINKING)
        else:
            marks = (*_THINKING, *_LONE, *(_ANSWER if self._parts else _BARE))
        mark = max((m for m in marks if head.startswith(m)), key=len, default="")
        if not final and any(m != mark and m.startswith(head) for m in marks):
            return None
        return self._take(mark, text, at, begin + len(mark), final=final) if mark else at

    def _take(self, mark: str, text: str, at: int, after: int, *, final: bool) -> int | None:
        """Act on a mark at the beginning of a line, if it counts there."""
        if self._closers:
            self._closers = tuple(dict.fromkeys((*_THINKING[mark], *self._closers)))
            self._is_fresh = False
            return after
        if mark in _BARE:
            if after == len(text) and not final:
                return None
            if not self._is_fresh or not text[after : after + 1].isupper():
                return at
            self._begin(_BARE[mark])
        elif mark in _ANSWER:
            if not self._is_fresh:
                return at
            self._answer_closer = _ANSWER[mark]
        elif mark in _THINKING:
            if len(self._parts) > 2 * MAX_SECTIONS:
                return at
            if not self._is_fresh:
                end = text.find("\n", after)
                if text[after : None if end < 0 else end].strip():
                    return at
                if end < 0 and not final:
                    return None if len(text) - after < _LONGEST else at
            self._begin(_THINKING[mark])
        elif any(part.is_thinking for part in self._parts):
            return at  # a second closing mark is text
        else:
            self._restart(opened=True)
        return after

    def _find_closer(self, text: str, at: int, end: int, *, final: bool) -> tuple[int, str]:
        """Find a closing mark from `at` to `end`.

        Returns its place and itself; without one, "" and the place from which the rest may become
        one.
        """
        closers = self._closing_now()
        for found in _any_of(closers).finditer(text, at, end) if closers else ():
            place, mark = found.start(), found.group()
            if (text[place - 1] if place > at else self._last) == "`":
                continue
            if not (self._fence and self._trust_fences):
                return place, mark
            self._has_closer_in_code = True
        if not final and not text.endswith("\n", at, end):
            for length in range(min(_LONGEST - 1, end - at), 0, -1):
                tail = text[end - length : end]
                if any(len(tail) < len(mark) and mark.startswith(tail) for mark in closers):
                    return end - length, ""
        return end, ""

    # -- acting -----------------------------------------------------------------------------------

    def _pass_on(self, text: str) -> None:
        """Add text to the section that is open."""
        if not text:
            return
        if not self._closers and (not self._parts or self._parts[-1].is_thinking):
            self._parts.append(_Part(is_thinking=False))
        self._parts[-1].pieces.append(text)
        self._last = text[-1]
        if text.strip():
            self._is_fresh = False
        if len(self._line) <= _FENCE_LINE:
            self._line += text[: _FENCE_LINE + 1]
        if text.endswith("\n"):
            self._end_line()

    def _end_line(self) -> None:
        line, self._line = self._line, ""
        found = _FENCE.match(line) if len(line) <= _FENCE_LINE else None
        if not found:
            return
        mark, info = found.groups()
        if self._fence:
            if mark[0] == self._fence[0] and len(mark) >= len(self._fence) and not info.strip():
                self._fence = ""
        elif mark[0] == "~" or "`" not in info:
            self._fence = mark

    def _begin(self, closers: tuple[str, ...]) -> None:
        if self._parts and not self._parts[-1].is_thinking:
            self._parts[-1].is_closed = True
        self._parts.append(_Part(is_thinking=True))
        self._closers, self._line, self._fence, self._last = closers, "", "", ""
        self._has_closer_in_code = False

    def _close(self) -> None:
        """End what a closing mark ends: thinking, or the frame around an answer."""
        if not self._closers:
            self._answer_closer = ""
            return
        self._parts[-1].is_closed = True
        self._closers, self._line, self._fence, self._last = (), "", "", ""
        self._is_fresh = True

    def _restart(self, *, opened: bool) -> None:
        """Begin to read everything anew."""
        self.num_restarts += 1
        self._opened = opened
        whole = "".join(self._whole)
        self._whole = [whole]
        self._reset()
        self._buffer = whole


@functools.lru_cache(maxsize=64)
def _pattern(closers: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds the lines that must be looked at one by one."""
    begins = r"^[ \t]*(?:[<\[\u25c1]|analysis|`{3}|~{3})"
    return re.compile("|".join([begins, *map(re.escape, closers)]), re.MULTILINE)


@functools.lru_cache(maxsize=64)
def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))


class _Part:
    """A section while it grows."""

    def __init__(self, *, is_thinking: bool) -> None:
        self.is_thinking = is_thinking
        self.is_closed = False
        self.pieces: list[str] = []

    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""
