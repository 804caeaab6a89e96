"""What a `Model` says of its prompts: the text, the tokens, and what its chat template can do.

Promises: what is counted and shown is what `chat` and `stream` would send for the same arguments.
Leaves to others: making it (the worker).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gguf_widgets.core.conversation_input import Conversation, check_text, to_messages
from gguf_widgets.core.errors import InvalidValueError, WorkerError
from gguf_widgets.core.images import cannot_see
from gguf_widgets.core.prompt_input import BeginWith, Extras, to_extras
from gguf_widgets.core.types import PromptToken, TemplateFacts
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.protocol import Prompt

__all__ = ["PromptMethods"]


class PromptMethods:
    """The half of a `Model` that is about text and tokens."""

    _chat_template: str | None
    _facts: tuple[str | None, TemplateFacts] | None = None

    # --- tokens ---

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Split a text into tokens.

        Parameters
        ----------
        text : str
        add_special : bool, default False
            Begin with the model's own first token, as a prompt does.
        parse_special : bool, default True
            Read control tokens such as ``<|im_end|>`` in the text as such.
        """
        check_text(text, "The text")
        answer = self._ask(
            lambda request_id: protocol.Tokenize(
                request_id=request_id,
                text=text,
                add_special=add_special,
                parse_special=parse_special,
            )
        )
        return list(answer.tokens)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """Join tokens into text; control tokens are written out."""
        numbers = list(tokens)
        if not all(isinstance(number, int) for number in numbers):
            raise InvalidValueError("Tokens are whole numbers.")
        answer = self._ask(
            lambda request_id: protocol.Detokenize(request_id=request_id, tokens=numbers)
        )
        return str(answer.text)

    def count_tokens(
        self,
        text_or_messages: Conversation,
        *,
        begin_with: BeginWith | None = None,
        tools: Any = None,
        template_variables: dict[str, Any] | None = None,
    ) -> int:
        """Count the tokens of a text, or of a list of messages as the model is given it.

        The keywords are those of `chat`; they are of messages, not of a text.
        """
        if isinstance(text_or_messages, str):
            if begin_with or tools or template_variables:
                raise InvalidValueError(
                    "A text is counted by itself, without a chat template. To count it as a message"
                    ' give [{"role": "user", "content": text}].'
                )
            return len(self.tokenize(text_or_messages))
        extras = _extras(begin_with, tools, template_variables)
        prompt = self._prompt(text_or_messages, self._chat_template, extras)
        answer = self._ask(
            lambda request_id: protocol.Render(
                request_id=request_id, prompt=prompt, with_text=False
            )
        )
        return int(answer.num_tokens)

    # --- prompts ---

    def render(
        self,
        conversation: Conversation,
        *,
        begin_with: BeginWith | None = None,
        tools: Any = None,
        template_variables: dict[str, Any] | None = None,
    ) -> str:
        """Return the text that the chat template makes of a conversation.

        The keywords are those of `chat`.
        """
        extras = _extras(begin_with, tools, template_variables)
        return str(self._render(conversation, self._chat_template, extras).text)

    def prompt_tokens(
        self,
        conversation: Conversation,
        *,
        begin_with: BeginWith | None = None,
        tools: Any = None,
        template_variables: dict[str, Any] | None = None,
    ) -> list[PromptToken]:
        """Return exactly what the model would be given for a conversation, token by token.

        The keywords are those of `chat`.

        Returns
        -------
        list of PromptToken
            Their texts joined are what `render` returns, with two exceptions: the model's own first
            token comes in front where the template does not write it, and some vocabularies put a
            blank in front of words.

        Raises
        ------
        InvalidValueError, ChatTemplateError
            As for `chat`. A prompt that does not fit the context is shown all the same.

        Examples
        --------
        >>> model.prompt_tokens("Hi")[0]  # doctest: +SKIP
        PromptToken(token=1, text='<|im_start|>', is_control=True)
        """
        extras = _extras(begin_with, tools, template_variables)
        return self.tokens_of_prompt(self._prompt(conversation, self._chat_template, extras))

    def tokens_of_prompt(self, prompt: Prompt) -> list[PromptToken]:
        """Do what `prompt_tokens` does for a prompt that is made already."""
        answer = self._ask(
            lambda request_id: protocol.ShowPrompt(request_id=request_id, prompt=prompt)
        )
        return list(answer.tokens)

    # --- the template ---

    @property
    def template_facts(self) -> TemplateFacts:
        """What the chat template in use can do: tools, thinking, a system prompt."""
        return self._facts_of(self._chat_template)

    def use_chat_template(self, source: str | None) -> None:
        """Use another chat template from now on, in this object only.

        Parameters
        ----------
        source : str or None
            A Jinja template, "chatml" for the common one, or None for the model's own.

        Raises
        ------
        ChatTemplateError
            If the template does not work; the one in use stays.
        """
        if source is not None:
            check_text(source, "The chat template")
        # Tried before it counts: other threads may be talking with this model just now.
        self._render("Hello", source)
        self._facts_of(source)
        self._chat_template = source

    def _facts_of(self, source: str | None) -> TemplateFacts:
        known = self._facts
        if known is None or known[0] != source:
            answer = self._ask(
                lambda request_id: protocol.GetTemplateFacts(
                    request_id=request_id, chat_template=source
                )
            )
            if not isinstance(answer, protocol.Facts):
                raise WorkerError(f"The worker answered with a {type(answer).__name__}.")
            known = self._facts = source, answer.facts
        return known[1]

    # --- inside ---

    @property
    def sees_images(self) -> bool:
        """Whether images can be sent; `Model` knows."""
        raise NotImplementedError

    def _prompt(
        self, conversation: Conversation, chat_template: str | None, extras: Extras
    ) -> Prompt:
        prompt = Prompt(
            messages=to_messages(conversation), chat_template=chat_template, **extras._asdict()
        )
        if prompt.has_images and not self.sees_images:
            raise cannot_see()  # before megabytes of images are sent
        return prompt

    def _render(
        self, conversation: Conversation, chat_template: str | None, extras: Extras | None = None
    ) -> Any:
        prompt = self._prompt(conversation, chat_template, extras or to_extras({}))
        return self._ask(lambda request_id: protocol.Render(request_id=request_id, prompt=prompt))

    def _ask(self, make: Callable[[str], Any]) -> Any:
        """Ask the worker something short; `Model` has the connection."""
        raise NotImplementedError


def _extras(begin_with: Any, tools: Any, template_variables: Any) -> Extras:
    return to_extras(
        {"begin_with": begin_with, "tools": tools, "template_variables": template_variables}
    )
