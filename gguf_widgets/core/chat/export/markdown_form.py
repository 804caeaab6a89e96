"""A conversation as Markdown, and as plain text.

Promises: the path on screen, message by message, every text as it was written; a code block or a
comment that an answer left open ends with the answer. Leaves to others: the words (`words`).
"""

from __future__ import annotations

import re

from gguf_widgets.core.chat.export import words
from gguf_widgets.core.chat.export.tree import Tree, line_of
from gguf_widgets.core.chat.types import ChatMessage

__all__ = ["markdown", "plain_text"]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_RULE = "-" * 72


def markdown(tree: Tree) -> str:
    """Return the path on screen as Markdown."""
    line = line_of(tree)
    blocks = [f"# {_one_line(words.title_of(tree))}", *words.head_of(tree, line)]
    if tree.conversation.system:
        blocks.append(_folded("What the model was told first", tree.conversation.system))
    for message in line:
        blocks += _message(message)
    return "\n\n".join(blocks).rstrip() + "\n"


def plain_text(tree: Tree) -> str:
    """Return the path on screen as plain text."""
    line = line_of(tree)
    blocks = [words.title_of(tree), "\n".join(words.head_of(tree, line))]
    if tree.conversation.system:
        blocks.append(f"The model was told first:\n{tree.conversation.system}")
    for message in line:
        blocks.append(f"{_RULE}\n{words.who(message)}, {words.moment(message.created_at)}")
        blocks += _notes_before(message)
        for part in words.parts_of(message):
            title = f"[{words.thinking_title(message)}]\n" if part.is_thinking else ""
            end = "\n[End of thinking]" if part.is_thinking else ""
            blocks.append(f"{title}{part.text.strip(chr(10))}{end}")
        for call in message.tool_calls:
            called, outcome = words.call_words(call)
            blocks.append(f"Tool: {called}\n{outcome}".rstrip())
        blocks += [text for text in (words.end_words(message), _facts(message)) if text]
    return "\n\n".join(blocks).rstrip() + "\n"


def _message(message: ChatMessage) -> list[str]:
    blocks = [f"## {_one_line(words.who(message))}"]
    blocks += [f"*{_one_line(text)}*" for text in _notes_before(message)]
    if message.left_out and message.summary:
        blocks.append(_folded("The summary that was sent instead", message.summary))
    for part in words.parts_of(message):
        if part.is_thinking:
            blocks.append(_folded(words.thinking_title(message), part.text))
        else:
            blocks.append(_ended(part.text))
    for call in message.tool_calls:
        called, outcome = words.call_words(call)
        blocks += [f"Tool: {_code(called)}", _block(outcome)]
    if end := words.end_words(message):
        blocks.append(f"**{_one_line(end)}**")
    if facts := _facts(message):
        blocks.append(f"<sub>{_one_line(facts)}</sub>")
    return blocks


def _notes_before(message: ChatMessage) -> list[str]:
    attached = [f"Attached: {words.attachment_words(one)}" for one in message.attachments]
    left_out = words.left_out_words(message)
    return [*attached, *([left_out] if left_out else [])]


def _facts(message: ChatMessage) -> str:
    return " · ".join(words.facts_of(message))


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{_one_line(title)}</summary>\n\n{_ended(text)}\n\n</details>"


def _ended(text: str) -> str:
    """Return Markdown in which nothing is open at the end that would take in what follows."""
    text = text.strip("\n")
    if text.rfind("<!--") > text.rfind("-->"):
        start = text.rfind("<!--")
        text = f"{text[:start]}&lt;!--{text[start + 4 :]}"
    fence = ""
    for row in text.split("\n"):
        found = _FENCE.fullmatch(row)
        if found is None:
            continue
        if not fence:
            # A line such as ```code``` is no block but a piece of code within a line.
            fence = found[1] if found[1][0] == "~" or "`" not in found[2] else ""
        elif found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _block(text: str) -> str:
    """Return any text as a code block."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip(chr(10))}\n{fence}"


def _code(text: str) -> str:
    """Return any text as code within a line."""
    text = " ".join(text.split())
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{pad}{text}{pad}{marks}"


def _one_line(text: str) -> str:
    """Return a text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", " ".join(text.split()))
