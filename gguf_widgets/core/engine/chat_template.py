"""A conversation in, the text of a prompt out, by the model's own template.

Promises: the template runs in a process of its own with limits (`template_process.py`); whatever it
does, the caller gets a text or a `ChatTemplateError` that names what happened, within a bounded
time; a renderer that hangs is killed and the next call starts a new one. Leaves to others: cutting
the text into tokens (`prompt.py`).

**A person's text is not control tokens.** Templates put a message between control tokens such as
``<|im_end|>``; read naively, the same characters inside a message would become that token and could
end the turn or forge another one. `render_parts` therefore replaces them in the messages by single
private-use characters, one for each control text, renders, and puts them back in parts of their own
which are to be read as plain text. The template's own output is not affected, whatever it does with
the message (trim, split, measure). What this does not cover: a control text that only comes about
because two messages are joined with nothing between them.

Any thread may call a `ChatTemplate`; one call runs at a time.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf_widgets.core.engine.prompt import PromptPart
from gguf_widgets.core.errors import ChatTemplateError, InvalidValueError

__all__ = ["CHATML", "ChatTemplate"]

CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""The plain template used where a model has none of its own, or where "chatml" is asked for."""

LIMIT_S = 2.0
LIMIT_START_S = 20.0
LIMIT_BYTES = 512 * 2**20
LIMIT_OUTPUT = 8 * 2**20

_INSTEAD = ' You can load the model with chat_template="chatml" to use a plain template instead.'
_PROCESS_FILE = Path(__file__).with_name("template_process.py")
_SIGXCPU = int(getattr(signal, "SIGXCPU", 0)) or None  # None on Windows
_SPARE = range(0xF0000, 0xFFFFE)  # private-use characters: no text has a use for them


class ChatTemplate:
    """Renders conversations.

    Parameters
    ----------
    source : str or None
        Jinja source; None or "chatml" is `CHATML`.
    bos_token, eos_token : str
        What the template sees under these names.
    control_texts : sequence of str
        How the model's control tokens are written.

    Attributes
    ----------
    note : str or None
        What a person should know: that the model has no template of its own.
    stop : tuple of str
        Strings that must end a reply besides the model's own end token: with `CHATML`, its marks,
        if the model does not know them as tokens.
    """

    def __init__(
        self,
        source: str | None,
        bos_token: str = "",
        eos_token: str = "",
        *,
        control_texts: Sequence[str] = (),
    ) -> None:
        self.note: str | None = None
        if source is None:
            self.note = (
                "This model has no chat template, so a plain one (ChatML) is used."
                " Its answers may be worse than its training allows."
            )
        plain = source is None or source == "chatml"
        self.source = CHATML if source is None or plain else source
        marks = ("<|im_end|>", "<|im_start|>")
        self.stop = tuple(m for m in marks if m not in control_texts) if plain else ()
        self._variables = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "tools": None,
            "documents": None,
        }
        longest_first = sorted(control_texts, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt's text.

        Parameters
        ----------
        messages : sequence of mappings
            Each with "role" and "content", both str.
        add_generation_prompt : bool, default True
            End with the beginning of the model's turn.

        Raises
        ------
        InvalidValueError
            For no messages, or messages that are not as above.
        ChatTemplateError
            If the template is wrong, refuses the messages, or exceeds a limit.
        """
        return self._render(_checked(messages), add_generation_prompt)

    def render_parts(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> list[PromptPart]:
        """Return the prompt in parts, in which a person's text is never a control token.

        Parameters and errors are those of `render`; the joined texts are what it returns.
        """
        messages = _checked(messages)
        everything = "".join(value for message in messages for value in _strings(message))
        found = set(self._control.findall(everything))
        if not found:
            return [PromptPart(self._render(messages, add_generation_prompt))]
        taken = {*everything, *self.source}
        spare = (chr(code) for code in _SPARE if chr(code) not in taken)
        stand_ins = dict(zip(found, spare, strict=False))
        hidden = [
            {
                key: self._control.sub(lambda match: stand_ins[match[0]], value)
                if isinstance(value, str)
                else value
                for key, value in message.items()
            }
            for message in messages
        ]
        text = self._render(hidden, add_generation_prompt)
        originals = {stand_in: original for original, stand_in in stand_ins.items()}
        pieces = re.split(f"([{''.join(originals)}])", text)
        return [
            PromptPart(originals[piece], parse_special=False)
            if piece in originals
            else PromptPart(piece)
            for piece in pieces
            if piece
        ]

    def check(self) -> None:
        """Render one short conversation, so that a template that cannot work is known early.

        Raises
        ------
        ChatTemplateError
        """
        self.render([{"role": "user", "content": "Hello"}])

    def close(self) -> None:
        """End the renderer; the next call would start it again."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        request = {
            "source": self.source,
            "context": {
                "messages": messages,
                "add_generation_prompt": add_generation_prompt,
                **self._variables,
            },
            "max_output": LIMIT_OUTPUT,
        }
        with self._lock:
            if self._process is None:
                self._process = _Process()
                weakref.finalize(self, self._process.end)
            try:
                answer = self._process.ask(request)
            except ChatTemplateError:
                self._process.end()
                self._process = None
                raise
        if "problem" in answer:
            raise _error(answer["problem"], answer["message"])
        text: str = answer["text"]
        if not _is_unicode(text):
            raise _error("failed", "it wrote half a character (a lone surrogate)")
        return text


class _Process:
    """One renderer process; after an error it has to be ended."""

    def __init__(self) -> None:
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own file, with our own interpreter
                [sys.executable, "-P", str(_PROCESS_FILE), str(LIMIT_BYTES), str(LIMIT_S)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ChatTemplateError(
                f"The process for chat templates did not start: {error}."
            ) from error
        if self._child.stdin is None or self._child.stdout is None:
            raise AssertionError("pipes were asked for")
        self._requests, self._answers = self._child.stdin, self._child.stdout
        self._ended = threading.Lock()
        self._is_ready = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._is_ready:
            self._exchange(None, LIMIT_START_S)
            self._is_ready = True
        return self._exchange(request, LIMIT_S)

    def _exchange(self, request: dict[str, Any] | None, limit_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer; the child is killed when time is up."""
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            self._child.kill()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                self._send(request)
            return self._receive()
        except (OSError, EOFError, ValueError) as error:
            timer.cancel()
            self._child.kill()
            status = self._child.wait()
            if timed_out.is_set() or (_SIGXCPU and status == -_SIGXCPU):  # the process's own limit
                raise _error("time", f"{limit_s:g} s") from error
            raise _error("failed", f"its process ended (status {status})") from error
        finally:
            timer.cancel()

    def _send(self, request: dict[str, Any]) -> None:
        body = json.dumps(request).encode()
        self._requests.write(struct.pack(">I", len(body)) + body)
        self._requests.flush()

    def _receive(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self._read(4))
        answer: dict[str, Any] = json.loads(self._read(length))
        return answer

    def _read(self, length: int) -> bytes:
        data = self._answers.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def end(self) -> None:
        with self._ended:
            self._child.kill()
            self._child.wait()
            for stream in (self._requests, self._answers):
                with contextlib.suppress(OSError):  # what was not flushed has no reader any more
                    stream.close()


def _error(problem: str, message: str) -> ChatTemplateError:
    message = message.rstrip(".")
    if problem == "refused":
        text = f"The model's chat template refuses this conversation: {message}."
    else:
        what = {
            "syntax": f"is not written correctly ({message})",
            "time": f"took longer than {message}",
            "memory": f"needs more than {LIMIT_BYTES // 2**20} MB of memory",
            "output": f"writes more than {LIMIT_OUTPUT // 2**20} million characters",
        }.get(problem, f"failed: {message}")
        text = f"The model's chat template {what}.{_INSTEAD}"
    return ChatTemplateError(text, problem=problem, reason=message)


def _checked(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    checked = [dict(message) for message in messages]
    if not checked:
        raise InvalidValueError("There is no message to answer.")
    for number, message in enumerate(checked, start=1):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise InvalidValueError(
                    f"Message {number} needs a {key!r} that is a str;"
                    f" it is {message.get(key)!r:.50}."
                )
        for value in _strings(message):
            if not _is_unicode(value):
                raise InvalidValueError(
                    f"Message {number} holds half a character (a lone surrogate); remove it."
                )
    return checked


def _strings(message: Mapping[str, Any]) -> list[str]:
    return [value for value in message.values() if isinstance(value, str)]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
