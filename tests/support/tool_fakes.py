"""A model that writes what a test says, as a worker would do it: tokens, beginnings, stop strings.

Not a test and no fixture. One token is one character, or one of the family's control tokens, which
show in no text. What is written is the raw text of each answer, marks included; the answer to which
it belongs is found by how many results of tools the conversation has.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from gguf_widgets.core.engine.chat_template import ChatTemplate
from gguf_widgets.core.errors import UnsupportedByModelError
from gguf_widgets.core.types import (
    FinishReason,
    LoadSettings,
    ModelInfo,
    Reply,
    TemplateFacts,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)

WAIT_S = 60.0
_FIRST_CONTROL = 0x110000


class WritingModel:
    """Writes `script`: the raw text of the first answer, of the one after the first results, ...

    `control` are the texts of control tokens; `template` a chat template, None for none at all;
    `native` says that it describes tools; `can_hold` False refuses schemas, as demo mode does.
    """

    name = "writer"

    def __init__(
        self,
        *script: str | Callable[[Any], str],
        template: str | None = None,
        native: bool = False,
        control: Sequence[str] = (),
        can_hold: bool = True,
        opens_thinking: bool = False,
    ) -> None:
        self.script = script
        self.control = list(control)
        self.can_hold = can_hold
        self.settings = LoadSettings(n_ctx=100_000)
        self.template_facts = TemplateFacts(native_tools=native, opens_thinking=opens_thinking)
        self.asked: list[dict[str, Any]] = []
        self.gate: threading.Event | None = None
        self.info = ModelInfo(
            path="/m/writer.gguf",
            name="writer",
            architecture="llama",
            size_bytes=1,
            num_parameters=1,
            quantization="Q8_0",
            n_ctx_train=4096,
            n_vocab=10,
            n_layer=1,
            n_head=1,
            n_head_kv=1,
            n_embd=8,
        )
        self._template = ChatTemplate(template, control_texts=control)

    def render(self, messages: Any, **keywords: Any) -> str:
        return self._template.render(messages, **keywords)

    def count_tokens(self, messages: Any, **keywords: Any) -> int:
        text = messages if isinstance(messages, str) else self.render(messages, **keywords)
        return len(text)

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        tokens: list[int] = []
        while text:
            found = next((c for c in self.control if parse_special and text.startswith(c)), None)
            tokens.append(
                _FIRST_CONTROL + self.control.index(found) if found is not None else ord(text[0])
            )
            text = text[len(found or text[0]) :]
        return tokens

    def stream(self, messages: Any, /, **sampling: Any) -> WritingStream:
        held = sampling.get("schema") is not None or sampling.get("grammar") is not None
        if held and not self.can_hold:
            raise UnsupportedByModelError("Demo mode follows no schema.")
        self.asked.append({"messages": messages, **sampling})
        number = sum(1 for m in messages if isinstance(m, dict) and m["role"] == "tool")
        raw = self.script[min(number, len(self.script) - 1)]
        return WritingStream(self, raw if isinstance(raw, str) else raw(messages), sampling)

    def close(self) -> None:
        self._template.close()


class WritingStream:
    def __init__(self, model: WritingModel, raw: str, sampling: dict[str, Any]) -> None:
        self.model, self.sampling = model, sampling
        begin = sampling.get("begin_with") or []
        is_text = isinstance(begin, str)
        self.begin = model.tokenize(begin, parse_special=False) if is_text else list(begin)
        self.whole = model.tokenize(raw)
        self.reply: Reply | None = None
        self.progress = None
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()

    def text_of(self, tokens: list[int]) -> str:
        return "".join(chr(one) for one in tokens if one < _FIRST_CONTROL)

    def __iter__(self) -> Iterator[TextDelta]:
        begin_text = self.text_of(self.begin)
        assert self.whole[: len(self.begin)] == self.begin, (
            f"asked to begin with {begin_text!r}, which is not what it writes"
        )
        rest = self.whole[len(self.begin) :]
        if (grammar := self.sampling.get("grammar")) is not None:
            assert self.sampling.get("constrain_begin") is False
            names = re.findall('"(.*?)"', grammar)
            text = self.text_of(rest)
            rest = rest[: max(len(name) for name in names if text.startswith(name))]
        if self.sampling.get("schema") is not None:
            assert self.sampling.get("constrain_begin") is False
            text = self.text_of(rest)
            rest = rest[: json.JSONDecoder().raw_decode(text)[1]]
        text, written, reason, met = begin_text, 0, FinishReason.STOP, None
        told, noted = 0, []
        most = self.sampling.get("max_tokens")
        for token in rest:
            if self.model.gate is not None and not self.stopped.is_set():
                assert self.model.gate.wait(WAIT_S)
            if self.stopped.is_set():
                reason = FinishReason.ABORTED
                break
            written += 1
            text += self.text_of([token])
            shown = chr(token) if token < _FIRST_CONTROL else self.model.control[token - 0x110000]
            noted.append(TokenLogprob(token, shown, -0.5))
            met = next(
                (s for s in self.sampling.get("stop", ()) if text[len(begin_text) :].endswith(s)),
                None,
            )
            if met is not None:
                text = text.removesuffix(met)
                break
            held = max((len(s) for s in self.sampling.get("stop", ())), default=1) - 1
            if len(text) - held > told + 3:
                yield self._delta(text[told : len(text) - held], written, noted)
                told = len(text) - held
                noted = []
            if most is not None and written >= most:
                reason = FinishReason.LENGTH
                break
        if text[told:]:
            yield self._delta(text[told:], written, noted)
        self.reply = Reply(
            text=text,
            finish_reason=reason,
            stop_string=met,
            usage=Usage(
                num_prompt_tokens=100 + len(self.begin), num_completion_tokens=max(written, 0)
            ),
            timings=Timings(queue_s=0, prefill_s=0.1, decode_s=0.2, ttft_s=0.1, total_s=0.3),
            seed=self.sampling.get("seed") or 7,
            logprobs=[] if self.sampling.get("logprobs") is not None else None,
        )

    def _delta(self, text: str, written: int, noted: list[TokenLogprob]) -> TextDelta:
        wanted = self.sampling.get("logprobs") is not None
        return TextDelta(
            request_id="r",
            text=text,
            num_completion_tokens=written,
            logprobs=noted if wanted else [],
        )
