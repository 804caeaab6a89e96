"""How an answer has to begin: with words, or with the tokens of an earlier answer.

Promises: tokens are only gone on from where they are exactly what the answer's text was made of,
and the model is the one that they are of; else it goes by words, which a model may split into other
tokens. Leaves to others: the branches (`branching`), the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gguf_widgets.core.chat.alignment import same_model, starts_of
from gguf_widgets.core.chat.model import ChatModel, describe
from gguf_widgets.core.chat.thinking import thinking_is_over
from gguf_widgets.core.chat.types import ChatMessage, well_formed
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.store.token_blob import KeptTokens
from gguf_widgets.core.types import TokenLogprob

__all__ = ["Begin", "after_thinking", "begin_before", "begin_tokens", "begin_whole", "begin_words"]

_PART = "\ufffd"  # stands in a token's text for bytes that are only part of a character

_NOT_IN_TOP = float("-inf")


class Begin(NamedTuple):
    """How an answer has to begin.

    Parameters
    ----------
    text : str
        The words.
    tokens : tuple of int, optional
        The tokens that say exactly that, for a model that knows them.
    given : tuple of TokenLogprob
        What was recorded of these tokens.
    template_variables : Mapping
        What the template was told when the words were written.
    thinking_s : float or None
        How long the model thought for them.
    """

    text: str = ""
    tokens: tuple[int, ...] | None = None
    given: tuple[TokenLogprob, ...] = ()
    template_variables: Mapping[str, Any] = {}
    thinking_s: float | None = None

    @property
    def begin_with(self) -> str | list[int] | None:
        """What the model is given."""
        return list(self.tokens) if self.tokens else self.text or None


def begin_words(words: str, model: Any, old: ChatMessage | None = None) -> Begin:
    """Return how an answer begins with a person's words.

    Parameters
    ----------
    words : str
    model : ChatModel
    old : ChatMessage, optional
        The answer that this one takes the place of: one that began with the very same words shows
        how they were meant.

    Raises
    ------
    InvalidValueError
        They are no text.
    """
    if not isinstance(words, str):
        raise InvalidValueError(
            f"What the answer begins with must be a text, not {type(words).__name__}."
        )
    words = well_formed(words)
    if old is not None and words and words == old.begin:
        return Begin(words, template_variables=_template_variables(old))
    return after_thinking(words, model) if words else Begin()


def after_thinking(words: str, model: Any) -> Begin:
    """Return how an answer begins with these words that has no thoughts before them."""
    facts = getattr(model, "template_facts", None)
    if facts is None or not getattr(facts, "opens_thinking", False):
        return Begin(words)
    # The template has opened the model's thinking: these words are for after it.
    if facts.has_thinking_switch:
        return Begin(words, template_variables={facts.thinking_variable: False})
    opening = facts.thinking_open or "<think>"
    closing = opening.replace("<", "</", 1).replace("[", "[/", 1)
    return Begin(f"{closing}\n\n{words}")


def begin_whole(old: ChatMessage, kept: KeptTokens | None, model: ChatModel) -> Begin:
    """Return how an answer begins that goes on where another one ended.

    Raises
    ------
    InvalidValueError
        That one is empty, or ended in calls of tools.
    """
    if old.tool_calls:
        raise InvalidValueError(
            "This answer ended in calls of tools; there is nothing to continue. Answer again "
            "instead."
        )
    if not old.content:
        raise InvalidValueError("This answer has no words to continue. Answer again instead.")
    begin = Begin(
        old.content, template_variables=_template_variables(old), thinking_s=old.thinking_s
    )
    if not (old.record or {}).get("opens_thinking") and not begin.template_variables:
        # Written without a template that opened the thinking (by a person, or another model): with
        # one that does, these words must not become a thought.
        begin = after_thinking(old.content, model)._replace(thinking_s=old.thinking_s)
    if (
        kept is None
        or not kept.tokens
        or not same_model(old.model, describe(model))
        # All of them: not only those after words that it was told to begin with.
        or (old.begin and not kept.num_given)
        or starts_of(kept.tokens, old.content) is None
    ):
        return begin
    tokens = tuple(token.token for token in kept.tokens)
    return Begin(
        old.content, tokens, tuple(kept.tokens), _template_variables(old), thinking_s=old.thinking_s
    )


def begin_before(
    old: ChatMessage, kept: KeptTokens | None, index: int, token: int, model: ChatModel
) -> Begin:
    """Return how an answer begins that has another token at one place.

    Raises
    ------
    InvalidValueError
        No tokens are recorded, there is no such place or token, or the token is part of a
        character where only words can be gone on from.
    RequestError
        The tokens are another model's.
    """
    kept = _checked(old, kept, index, model)
    start = 0 if kept.num_given else len(old.begin)
    starts = starts_of(kept.tokens, old.content[start:])
    before = (
        old.content[: start + starts[index]]
        if starts is not None
        # The text ended before its tokens did (at a stop string), or the program between the two.
        else old.content[:start] + "".join(one.text for one in kept.tokens[:index])
    )
    chosen = _recorded(kept.tokens[index], token, model)
    is_whole = _PART not in chosen.text
    text = before + (chosen.text if is_whole else "")
    opened = bool((old.record or {}).get("opens_thinking"))
    begin = Begin(
        text,
        template_variables=_template_variables(old),
        thinking_s=old.thinking_s if thinking_is_over(text, opened=opened) else None,
    )
    if start == 0:
        given = (*kept.tokens[:index], chosen)
        return begin._replace(tokens=tuple(one.token for one in given), given=given)
    # The tokens of the words at its beginning are not known: it goes by words.
    if not is_whole:
        raise InvalidValueError(
            "This token is only part of a character. This answer was told to begin with some "
            "words, and so can only be gone on from by words. Choose another token.",
            token=token,
        )
    return begin


def begin_tokens(
    tokens: Sequence[int], old: ChatMessage, kept: KeptTokens | None, model: ChatModel
) -> Begin:
    """Return how an answer begins with tokens that a program names, in place of another answer.

    Raises
    ------
    InvalidValueError
        They are no tokens.
    """
    if not isinstance(tokens, list | tuple):
        raise InvalidValueError(
            "What the answer begins with must be a text or a list of tokens, not "
            f"{type(tokens).__name__}."
        )
    given = tuple(_recorded(None, token, model) for token in tokens)
    known = kept.tokens[: len(given)] if kept is not None else []
    if [one.token for one in known] == [one.token for one in given]:
        given = tuple(known)
    # What they say is known for sure when they are said; what is shown until then is the old text.
    is_old = bool(given) and starts_of(given, old.begin) is not None
    return Begin(
        old.begin if is_old else "",
        tuple(one.token for one in given),
        given,
        _template_variables(old),
    )


def _checked(old: ChatMessage, kept: KeptTokens | None, index: int, model: ChatModel) -> KeptTokens:
    if kept is None or not kept.tokens:
        raise InvalidValueError(
            "The tokens of this answer were not recorded, so it cannot be branched inside. Set "
            "record_tokens and answer again."
        )
    if not isinstance(index, int) or not 0 <= index < len(kept.tokens):
        raise InvalidValueError(
            f"The answer has no token number {index!r:.40}; it has {len(kept.tokens):,}, counted "
            "from 0."
        )
    if not same_model(old.model, describe(model)):
        raise RequestError(
            f"The tokens of this answer are those of {old.model_name}. Choose that model to branch "
            "here, or answer again.",
            reason="other model",
            model=old.model_name,
        )
    return kept


def _template_variables(message: ChatMessage) -> dict[str, Any]:
    found = (message.record or {}).get("template_variables")
    return dict(found) if isinstance(found, dict) else {}


def _recorded(place: TokenLogprob | None, token: int, model: Any) -> TokenLogprob:
    """Return a token as it would have been recorded at a place."""
    if not isinstance(token, int) or isinstance(token, bool) or token < 0:
        raise InvalidValueError(f"A token is a whole number from 0 on, not {token!r:.40}.")
    if place is not None and token == place.token:
        return place
    top = place.top if place is not None else []
    for chance in top:
        if chance.token == token:
            return TokenLogprob(token, chance.text, chance.logprob, top)
    return TokenLogprob(token, str(model.detokenize([token])), _NOT_IN_TOP, top)
