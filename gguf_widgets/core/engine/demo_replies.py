"""What the demo mode answers: prepared texts which say that no model is running.

Promises: every answer is honest about being prepared, and useful for looking around: one to greet,
one that explains, one long enough to try Stop on, one with formatting. Leaves to others: the
install line for this machine (the banner shows it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["answer", "demo_script"]

_GREETING = (
    "Hello! This is demo mode: no model is running, so I can only give prepared answers. "
    "You can still look around. Try “Tell me a story”, “Show me some formatting” or “Help”."
)
_HELP = """\
You are in **demo mode**: the part that runs models (llama-cpp-python) is not installed, or it was \
switched off. The line at the top of the page says how to install it.

When it is there, choose a model on the left, load it, and write to it here. Everything else on \
this page works the same way as now:

- *Send* with Enter; Shift+Enter begins a new line.
- *Stop* ends an answer early and keeps what has arrived.
- *New conversation* begins another one.
"""
_STORY = """\
This is a prepared story, because no model is running. It is long, so that you can try Stop.

Emma found an old radio in her grandmother's attic. It was grey with dust, and one of its knobs \
was missing. She carried it down the stairs, one careful step after another, and put it on the \
kitchen table. Nobody thought that it would still work.

Her grandmother smiled when she saw it. She told Emma that the whole street used to come and \
listen, on winter evenings, when there was snow up to the windows. They had brought their own \
chairs. They had laughed at the same jokes, and sometimes they had danced.

Emma cleaned it with a soft cloth. She made a new knob out of a cork. Then she turned it, slowly, \
and for a long time there was nothing but a hiss, like rain on a roof. She turned it a little \
further. The hiss became a whisper, and the whisper became a song.

In the evening Emma carried a chair out to the pavement and set the radio on it. Mr Olsen from \
number nine stopped with his dog. The twins came with ice cream. Somebody brought a bench, and \
somebody else brought a lamp, and when it was quite dark the whole street was there.

Her grandmother sat in the middle, in her best coat. “You see,” she said, “it was never the radio. \
It was the chairs.” And then she asked Emma to dance.
"""
_FORMATTING = """\
This is a prepared answer that shows how replies are formatted.

## A list

1. First, **bold** and *italic* words.
2. Then a piece of `code` inside a line.

## A program

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

## A table

| Model | Size | Good for |
|---|---|---|
| small | 1 GB | quick answers |
| large | 9 GB | harder questions |

> No model is running: this is demo mode.
"""
_OTHERWISE = (
    "You wrote: “{text}”. This is demo mode: no model is running, so I cannot really answer that. "
    "The line at the top of the page says how to install the part that runs models. "
    "Until then, try “Tell me a story” or “Show me some formatting”."
)
_RULES = (
    (re.compile(r"\b(story|long|stop)\b"), _STORY),
    (re.compile(r"\b(format\w*|markdown|table|code|python|list)\b"), _FORMATTING),
    (re.compile(r"\b(help|install|how|what can|who are|what are)\b"), _HELP),
    (re.compile(r"\b(hello|hi|hey|good (morning|day|evening))\b"), _GREETING),
)
_LONGEST_QUOTE = 200


def answer(text: str) -> str:
    """Return the prepared answer to what a person wrote."""
    words = text.lower()
    for pattern, reply in _RULES:
        if pattern.search(words):
            return reply
    quoted = " ".join(text.split())
    if len(quoted) > _LONGEST_QUOTE:
        quoted = quoted[:_LONGEST_QUOTE].rstrip() + " ..."
    return _OTHERWISE.format(text=quoted) if quoted else _GREETING


# The control tokens of `scripted.py`, which imports this module.
_IM_START, _IM_END = 257, 258


@lru_cache(maxsize=256)
def _reply_bytes(prompt: tuple[int, ...]) -> bytes:
    """Find the last thing the person wrote in a ChatML prompt, or take the prompt as it is."""
    turns: list[bytes] = []
    start = 0
    for index, token in enumerate(prompt):
        if token == _IM_START:
            start = index + 1
        elif token == _IM_END:
            turns.append(bytes(token for token in prompt[start:index] if token < 256))
    written = [turn.partition(b"\n")[2] for turn in turns if turn.startswith(b"user\n")]
    if not written:
        written = [bytes(token for token in prompt if token < 256)]
    return answer(written[-1].decode("utf-8", "replace")).encode()


def demo_script(tokens: Sequence[int], num_prompt: int) -> int:
    """Continue a prompt with its prepared answer, byte by byte; the end is a control token.

    Where the answer was told to begin with something else, it follows behind that.
    """
    reply = _reply_bytes(tuple(tokens[:num_prompt]))
    written = bytes(token for token in tokens[num_prompt:] if token < _IM_START - 1)
    # All of it, unless a person told the reply to begin with other words: it comes behind those.
    longest = range(min(len(reply), len(written)), 0, -1)
    position = next((length for length in longest if written.endswith(reply[:length])), 0)
    return reply[position] if position < len(reply) else _IM_END
