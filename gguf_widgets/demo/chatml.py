"""The ChatML form in which the demo model reads and writes conversations.

Promises: `render` gives exactly the text that the chat template in the model file gives for the
same messages.

Leaves to others: tokens.
"""

from __future__ import annotations

from gguf_widgets.demo.sentences.base import Conversation

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, START, END)

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def message(role: str, content: str) -> str:
    """Return one message in ChatML."""
    return f"{START}{role}\n{content}{END}\n"


def render(conversation: Conversation) -> str:
    """Return the whole conversation, answers included, in ChatML."""
    parts = [message("system", conversation.system)] if conversation.system is not None else []
    for turn in conversation.turns:
        parts += [message("user", turn.user), message("assistant", turn.answer)]
    return "".join(parts)
