"""Prompt templates for the page: listed, filled in, saved, shared as a file.

Promises: every question is answered with the list as it is then, or an error in words. Leaves to
others: the templates (`core.prompt_templates`), the form (`static/_chat_writing_prompts.js`).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.preferences import Preferences
from gguf_widgets.core.prompt_templates import BUILT_IN, PromptTemplate, PromptTemplates
from gguf_widgets.widgets._chat_part import ChatHost, Content

__all__ = ["PromptActions"]


class PromptActions:
    """What the page may ask about prompt templates.

    Parameters
    ----------
    host : ChatHost
    """

    def __init__(self, host: ChatHost) -> None:
        self._host = host

    @property
    def _templates(self) -> PromptTemplates:
        return PromptTemplates(Preferences(self._host.chat.store))

    def list(self, _content: Content | None = None) -> Content:
        """Return all templates."""
        templates = self._templates
        own = {one.name for one in templates.own()}
        built_in = {one.name for one in BUILT_IN}
        return {
            "templates": [
                {
                    "name": one.name,
                    "text": one.text,
                    "description": one.description,
                    "blanks": one.blanks,
                    "own": one.name in own,
                    "replaces": one.name in own and one.name in built_in,
                }
                for one in templates.all()
            ]
        }

    def fill(self, content: Content) -> Content:
        """Return a template with its blanks filled in."""
        values = content.get("values")
        given = {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}
        return {"text": self._templates.get(_text(content, "name")).filled(given)}

    def save(self, content: Content) -> Content:
        """Keep one of one's own."""
        template = PromptTemplate(
            name=_text(content, "name"),
            text=_text(content, "text"),
            description=_text(content, "description"),
        )
        before = content.get("before")
        kept = self._templates.save(template, before if isinstance(before, str) else None)
        return self.list() | {"saved": kept.name}

    def delete(self, content: Content) -> Content:
        """Forget one of one's own; what it was comes back, for Undo."""
        gone = self._templates.delete(_text(content, "name"))
        return self.list() | {
            "gone": {"name": gone.name, "text": gone.text, "description": gone.description}
        }

    def export(self, _content: Content) -> tuple[Content, bytes]:
        """Return one's own as a file."""
        return {"fileName": "prompt-templates.json"}, self._templates.export()

    def add_from(self, data: bytes) -> Content:
        """Add those of a file; the words say what came of it."""
        found = self._templates.add_from(data)
        words = [_counted(len(found.added), "was added", "were added")]
        if found.known:
            words.append(_counted(len(found.known), "was here already", "were here already"))
        words += [f"“{old}” is now “{new}”" for old, new in found.renamed.items()]
        return self.list() | {"words": "; ".join(words) + "."}


def _text(content: Content, key: str) -> str:
    value: Any = content.get(key, "")
    if not isinstance(value, str):
        raise InvalidValueError(f"The page sent no text for {key}. Try again.", name=key)
    return value


def _counted(number: int, one: str, many: str) -> str:
    return f"1 template {one}" if number == 1 else f"{number:,} templates {many}"
