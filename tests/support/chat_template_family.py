"""What these tests know of a model family's chat format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """A model family's chat format.

    Attributes
    ----------
    name, published, template : str
    example : str
        What becomes of: the system prompt "Be brief." (where there is a place for one), "Hi",
        "Hello!", "Bye", and the beginning of the model's turn.
    bos, eos : str
    control : tuple of str
        Its control tokens besides these two.
    system : bool
        There is a place for a system prompt.
    turns : bool
        The person and the model have to take turns.
    tools : bool
        There is a format for tools, their calls and results.
    arguments_as_text : bool
        Calls have their arguments as JSON in a text.
    calls_without_content : bool
        The content beside calls has to be None.
    typed : bool
        Contents have to be lists of parts.
    thinking_open, thinking_variable : str or None
        As in `TemplateFacts`.
    continues : str
        "" if a reply is begun as Hugging Face continues a final message; else why it differs.
    """

    name: str
    published: str
    template: str
    example: str
    bos: str = ""
    eos: str = ""
    control: tuple[str, ...] = ()
    system: bool = True
    turns: bool = False
    tools: bool = False
    arguments_as_text: bool = False
    calls_without_content: bool = False
    typed: bool = False
    thinking_open: str | None = None
    thinking_variable: str | None = None
    continues: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
