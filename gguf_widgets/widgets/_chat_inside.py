"""Seeing inside an answer: its tokens and their alternatives, what the model read, the same again.

Promises: whatever is asked for is sent in bounded pieces, and each piece says how much there is in
all; what was asked last is kept, so that going from token to token reads nothing again; nothing the
page sends is trusted. Leaves to others: recording (`core.chat.interface`, `core.chat.record`), the
arithmetic (`core.chat.tokens`), the prompt (`core.chat.read`), comparing (`core.chat.repeat`), the
look (`static/_chat_inside*.js`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, ClassVar, NamedTuple

from gguf_widgets.core.chat.read import ReadPrompt, read_for
from gguf_widgets.core.chat.repeat import compare, start_repeat
from gguf_widgets.core.chat.tokens import (
    Shown,
    as_percent,
    choices_of,
    least_sure,
    num_choices,
    probability_of,
    shown_tokens,
    visible,
)
from gguf_widgets.core.chat.types import ChatMessage, ChatSnapshot, MessageStatus
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import TokenChance, TokenLogprob
from gguf_widgets.widgets._chat_inside_words import (
    rank_words,
    result_of,
    spans_within,
    summary_of,
    torn_words,
    warning_of,
)
from gguf_widgets.widgets._chat_numbers import numbers_of, short_numbers
from gguf_widgets.widgets._chat_part import ChatHost, ChatPart, Content

__all__ = ["InsidePart"]

TOKENS_A_PIECE = 4000
PROMPT_A_PIECE = 1000
_COPY_MAX = 8_000_000  # characters in one message to the page; the socket takes 10 MiB
_NUM_LEAST_SURE = 20
_KEPT = 4
_LIKE_A_MARK = re.compile(r"<\S{1,60}>|\[\S{1,60}\]")


class _Tokens(NamedTuple):
    """An answer's tokens as they are shown."""

    content: str
    tokens: list[TokenLogprob]
    shown: list[Shown]
    before: str  # what stands in the text before them: the words that it had to begin with
    after: str  # and behind them: what came after they were last kept, before a crash


class InsidePart(ChatPart):
    """What "Look inside" shows."""

    NAME = "inside"

    def __init__(self, host: ChatHost) -> None:
        super().__init__(host)
        self._all = False  # whether every answer is shown as its tokens
        self._tokens: OrderedDict[str, _Tokens] = OrderedDict()
        self._control: dict[tuple[str, int], bool] = {}
        self._prompt: tuple[str, ReadPrompt] | None = None
        self._repeats: dict[str, ChatMessage] = {}  # those under way: new id -> the answer of then
        self._results: OrderedDict[str, Content] = OrderedDict()  # by the new answer's id

    # -- what the page shows ----------------------------------------------------------------------

    def state(self, shot: ChatSnapshot) -> Content:
        """Return whether all answers are looked into, and what came of repetitions."""
        self._settle(shot)
        shown = {message.id for message in shot.messages}
        return {
            "all": self._all,
            "repeats": {
                message_id: result
                for message_id, result in self._results.items()
                if message_id in shown
            },
        }

    def view(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        """Return an answer's numbers."""
        del shot
        return {"numbers": numbers_of(message), "short": short_numbers(message)}

    def _settle(self, shot: ChatSnapshot) -> None:
        """Compare the repetitions that have ended."""
        for message in shot.messages:
            if message.id in self._repeats and message.status is not MessageStatus.STREAMING:
                original = self._repeats.pop(message.id)
                try:
                    result = result_of(compare(self.host.chat, original, message))
                except GgufWidgetsError as error:
                    result = {"words": f"They were not compared: {error.message}", "kind": "failed"}
                self._keep_result(message.id, result)

    def _keep_result(self, message_id: str, result: Content) -> None:
        self._results[message_id] = result
        while len(self._results) > 50:
            self._results.popitem(last=False)

    # -- tokens -----------------------------------------------------------------------------------

    def _look_at_all(self, content: Content, _buffers: list[Any]) -> Content:
        self._all = content.get("on") is True
        self.host.touch()
        return {}

    def _some_tokens(self, content: Content, _buffers: list[Any]) -> Content:
        """Return a piece of an answer's tokens, as columns."""
        known = self._known(content)
        start = _number(content, "start", len(known.tokens))
        piece = slice(start, start + TOKENS_A_PIECE)
        tokens, shown = known.tokens[piece], known.shown[piece]
        answer: Content = {
            "start": start,
            "total": len(known.tokens),
            "texts": [one.text for one in shown],
            "chances": [float(f"{probability_of(token):.4g}") for token in tokens],
            "parts": {
                str(i): [one.part, one.num_parts]
                for i, one in enumerate(shown)
                if one.num_parts > 1
            },
            "cut": [i for i, one in enumerate(shown) if not one.in_text],
        }
        if start == 0:
            answer["leastSure"] = least_sure(known.tokens, _NUM_LEAST_SURE)
            answer["before"] = known.before
        if start + len(tokens) == len(known.tokens):
            answer["after"] = known.after
        return answer

    def _one_token(self, content: Content, _buffers: list[Any]) -> Content:
        """Return what there is to say of one token."""
        known = self._known(content)
        index = _number(content, "index", len(known.tokens) - 1)
        token, shown = known.tokens[index], known.shown[index]
        chance = probability_of(token)
        choices = choices_of(token)
        rest = max(0.0, 1.0 - sum(probability_of(choice) for choice in choices))
        return {
            "index": index,
            "token": token.token,
            "text": visible(token.text),
            "part": [shown.part, shown.num_parts],
            "chance": as_percent(chance),
            "rank": rank_words(token),
            "torn": torn_words(num_choices(token)),
            "rest": as_percent(rest) if token.top and rest > 0.00005 else "",
            "cut": not shown.in_text,
            "choices": [
                {
                    "token": choice.token,
                    "text": visible(choice.text),
                    "percent": as_percent(probability_of(choice)),
                    "share": round(probability_of(choice), 4),
                    "written": choice.token == token.token,
                    "control": self._is_control(choice),
                }
                for choice in choices
            ],
        }

    def _branch_at(self, content: Content, _buffers: list[Any]) -> Content:
        """Go on from a token with another one in its place."""
        known = self._known(content)
        index = _number(content, "index", len(known.tokens) - 1)
        wanted = content.get("token")
        choices = [one for one in choices_of(known.tokens[index]) if one.token == wanted]
        if not choices:
            raise InvalidValueError(
                "This token is none of the alternatives that were recorded. Choose one of those."
            )
        if self._is_control(choices[0]):
            raise InvalidValueError(
                f"{choices[0].text} is a control token: a mark, such as the end of an answer. An"
                " answer cannot go on with it. Choose another one."
            )
        message = self.host.chat.branch_at(_id_of(content), index, choices[0].token)
        self.host.touch()
        return {"message": message.id}

    def _is_control(self, choice: TokenChance) -> bool:
        """Whether a token is a mark of the template's, and not a text that looks like one."""
        text, model = choice.text, self.host.model
        if not isinstance(model, Model) or not _LIKE_A_MARK.fullmatch(text):
            return False
        key = (model.info.path, choice.token)
        if key not in self._control:
            as_mark = model.tokenize(text) == [choice.token]
            self._control[key] = as_mark and model.tokenize(text, parse_special=False) != [
                choice.token
            ]
        return self._control[key]

    def _known(self, content: Content) -> _Tokens:
        message = self._message(content)
        known = self._tokens.pop(message.id, None)
        if known is None or known.content != message.content:
            tokens = self.host.chat.tokens(message.id)
            if not tokens:
                raise InvalidValueError(
                    "The tokens of this answer were not recorded, so only its text is there. Answer"
                    " again to see them."
                )
            start = self.host.chat.token_start(message.id)
            shown = shown_tokens(tokens, message.content, start)
            before, after = message.content[:start], message.content[start:]
            text = "".join(one.text for one in shown if one.in_text)
            after = after[len(text) :] if after.startswith(text) else ""
            known = _Tokens(message.content, tokens, shown, before, after)
        self._tokens[message.id] = known
        while len(self._tokens) > _KEPT:
            self._tokens.popitem(last=False)
        return known

    # -- what the model read ----------------------------------------------------------------------

    def _some_prompt(self, content: Content, _buffers: list[Any]) -> None:
        message_id = self._message(content).id
        start = content.get("start", 0)

        def work() -> Content:
            prompt = self._read(message_id, afresh=start == 0)
            first = _number(content, "start", len(prompt.tokens))
            piece = prompt.tokens[first : first + PROMPT_A_PIECE]
            return {
                "start": first,
                "total": len(prompt.tokens),
                "texts": [token.text for token in piece],
                "tokens": [token.token for token in piece],
                "control": [i for i, token in enumerate(piece) if token.is_control],
                "spans": spans_within(prompt, first, first + len(piece)),
                "summary": summary_of(prompt),
                "warning": warning_of(prompt),
            }

        self.host.at_work(work, content)

    def _copy_prompt(self, content: Content, _buffers: list[Any]) -> None:
        message_id = self._message(content).id

        def work() -> Content:
            text = self._read(message_id).text
            if len(text) > _COPY_MAX:
                raise InvalidValueError(
                    f"The prompt has {len(text):,} characters; at most {_COPY_MAX:,} can be copied "
                    "from here. In Python: model.render(chat.prompt_messages())."
                )
            return {"text": text}

        self.host.at_work(work, content)

    def _read(self, message_id: str, *, afresh: bool = False) -> ReadPrompt:
        kept = self._prompt
        if kept is not None and kept[0] == message_id and not afresh:
            return kept[1]
        prompt = read_for(self.host.chat, message_id)
        self._prompt = (message_id, prompt)
        return prompt

    # -- the same again ---------------------------------------------------------------------------

    def _repeat(self, content: Content, _buffers: list[Any]) -> Content:
        original = self._message(content)
        message = start_repeat(self.host.chat, original.id)
        self._repeats[message.id] = original
        words = "Writing it once more, with the same seed and settings."
        self._keep_result(message.id, {"words": words, "kind": "working"})
        self.host.touch()
        return {"message": message.id}

    def _message(self, content: Content) -> ChatMessage:
        wanted = _id_of(content)
        for message in self.host.chat.messages:
            if message.id == wanted and message.role == "assistant":
                return message
        raise InvalidValueError("This answer is not on screen any more.")

    ACTIONS: ClassVar = {
        "inside-all": _look_at_all,
        "inside-tokens": _some_tokens,
        "inside-token": _one_token,
        "inside-branch": _branch_at,
        "inside-prompt": _some_prompt,
        "inside-copy": _copy_prompt,
        "inside-repeat": _repeat,
    }


def _id_of(content: Content) -> str:
    message_id = content.get("message")
    if not isinstance(message_id, str):
        raise InvalidValueError("The page named no message. Reload it and try again.")
    return message_id


def _number(content: Content, name: str, highest: int) -> int:
    value = content.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise InvalidValueError(
            f"{name} is {value!r:.40}; it must be a whole number from 0 to {highest}.", name=name
        )
    return value
