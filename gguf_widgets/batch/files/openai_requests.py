"""Requests of OpenAI's batch interface, as this package asks them.

Promises: one line of such a file becomes messages and settings of `SamplingSettings`, each value
meaning what OpenAI says it means; what has no meaning here is listed by name: `ignored` what
changes no reply, `unsupported` what would change it, so that whoever runs the request can refuse
it; nothing is dropped in silence. A line that is no request is told with its number. Leaves to
others: running it, results (`openai_results`).

The layout is OpenAI's: https://platform.openai.com/docs/guides/batch (the files) and
https://platform.openai.com/docs/api-reference/chat/create (a request's body), as of 2025. Settings
of llama.cpp by their own names (``top_k``, ``min_p``, ``grammar``, ...) are taken in the body too,
as servers that run such models do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.settings import SamplingSettings, current_names

__all__ = ["OpenAiRequest", "parse_request"]

_URL: Final = "/v1/chat/completions"

# What says nothing about the reply: who asks, what is kept, how it is paid for, what is quicker.
_IGNORED: Final = frozenset(
    ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
) | frozenset(("prediction", "stream_options", "parallel_tool_calls", "prompt_cache_retention"))

_ROLES: Final = {
    "system": "system",
    "developer": "system",  # the newer name of the same
    "user": "user",
    "assistant": "assistant",
}

# The settings that llama.cpp and this package know by names OpenAI does not use.
_OWN: Final = frozenset(SamplingSettings.__struct_fields__) - {"schema", "logprobs", "max_tokens"}


class OpenAiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes
    ----------
    line : int
        Of the file, from 1.
    custom_id : str
        The name its result is given back by.
    model : str
        The model it asks for.
    messages : list of dict
        ``role`` is "system", "user" or "assistant", ``content`` is text; where it holds images or
        sound it is a list of OpenAI's parts. Images that are in the file can be sent to a model
        that sees; of others, and of sound, `unsupported` says so.
    sampling : dict
        Keywords of `SamplingSettings`, checked: only what the request says.
    num_samples : int
        How many replies are asked for (``n``).
    unsupported : tuple of str
        What is asked for and cannot be done: ``tools``, ``messages[2].content[1] (image_url)``.
    ignored : tuple of str
        What changes no reply: ``user``, ``metadata``.
    """

    line: int
    custom_id: str
    model: str
    messages: list[dict[str, Any]]
    sampling: dict[str, Any] = {}
    num_samples: int = 1
    unsupported: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The last message of the user, for a table's cell."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                content = message["content"]
                if isinstance(content, str):
                    return content
                return "".join(part.get("text", "") for part in content if isinstance(part, dict))
        return ""

    def settings(self, **others: Any) -> SamplingSettings:
        """Return the settings; `others` are those for what the request does not say."""
        return SamplingSettings.from_keywords(**{**others, **self.sampling})


def parse_request(value: Any, line: int) -> OpenAiRequest:
    """Read one line's value.

    Raises
    ------
    TableFileError
        It is no request that can be run at all: the message says what is wrong with it, without
        the line.
    """
    if not isinstance(value, dict):
        raise _fault("it is not an object with custom_id, method, url and body")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise _fault("custom_id is not a text")
    method, url, body = value.get("method"), value.get("url"), value.get("body")
    if method != "POST":
        raise _fault(f"method is {method!r:.40}, and only 'POST' is known")
    if url != _URL:
        raise _fault(f"url is {url!r:.60}, and only {_URL!r} can be answered")
    if not isinstance(body, dict):
        raise _fault("body is not an object")
    if not isinstance(body.get("model"), str):
        raise _fault("body.model is not a text")
    reading = _Body(body)
    try:
        reading.read()
        checked = SamplingSettings.from_keywords(**reading.sampling)
    except InvalidValueError as error:
        raise _fault(f"body: {error.message}") from error
    # As checked: a single stop string has become a list, a schema plain JSON.
    sampling = {
        name: list(kept) if isinstance(kept := getattr(checked, name), tuple) else kept
        for name in reading.sampling
    }
    extra = [name for name in value if name not in ("custom_id", "method", "url", "body")]
    return OpenAiRequest(
        line=line,
        custom_id=custom_id,
        model=body["model"],
        messages=reading.messages,
        sampling=sampling,
        num_samples=reading.num_samples,
        unsupported=tuple(reading.unsupported + extra),
        ignored=tuple(reading.ignored),
    )


def _fault(what: str) -> TableFileError:
    return TableFileError(what, problem="request")


def _is_here(value: Any) -> bool:
    """Say whether an image's bytes are in the request; nothing is fetched from the net."""
    url = value.get("url") if isinstance(value, dict) else None
    return isinstance(url, str) and url[:11].lower() == "data:image/"


class _Body:
    """The parts of one body, sorted."""

    def __init__(self, body: dict[str, Any]) -> None:
        # OpenAI takes null for "not given".
        self._body = {name: value for name, value in body.items() if value is not None}
        self.messages: list[dict[str, Any]] = []
        self.sampling: dict[str, Any] = {}
        self.num_samples = 1
        self.unsupported: list[str] = []
        self.ignored: list[str] = []

    def read(self) -> None:
        known: dict[str, Callable[[Any], None]] = {
            "model": lambda _: None,
            "messages": self._messages,
            "n": self._n,
            "max_tokens": lambda value: self._most("max_tokens", value),
            "max_completion_tokens": lambda value: self._most("max_completion_tokens", value),
            "response_format": self._response_format,
            "logprobs": self._logprobs,
            "top_logprobs": self._top_logprobs,
            "logit_bias": self._logit_bias,
            "stream": self._stream,
            "modalities": self._modalities,
        }
        if "messages" not in self._body:
            raise InvalidValueError("messages are missing.")
        for name, value in current_names(self._body).items():
            if handle := known.get(name):
                handle(value)
            elif name in _OWN:
                self.sampling[name] = value
            elif name in _IGNORED:
                self.ignored.append(name)
            else:
                self.unsupported.append(plain_text(name, 60))

    def _messages(self, messages: Any) -> None:
        if not isinstance(messages, list) or not messages:
            raise InvalidValueError("messages is not a list with a message in it.")
        for place, message in enumerate(messages):
            self._message(message, f"messages[{place}]")

    def _message(self, message: Any, where: str) -> None:
        if not isinstance(message, dict):
            raise InvalidValueError(f"{where} is not an object with a role and a content.")
        given = message.get("role")
        role = _ROLES.get(given) if isinstance(given, str) else None
        if role is None:
            if given not in ("tool", "function"):
                raise InvalidValueError(f"{where} has the role {given!r:.40}, which is not known.")
            self.unsupported.append(f"{where} (role {given})")
            role = "user"
        content = message.get("content")
        if isinstance(content, list):
            content = self._parts(content, where)
        elif content is None and message.get("tool_calls"):
            content = ""
        elif not isinstance(content, str):
            raise InvalidValueError(f"{where}.content is neither a text nor a list of parts.")
        self.messages.append({"role": role, "content": content})
        for name, value in message.items():
            if name in ("role", "content") or value is None:
                continue
            # The name of a speaker is told to OpenAI's models, and chat templates have no place
            # for it; what else there may be (tool_calls, audio) is part of the conversation, too.
            self.unsupported.append(f"{where}.{plain_text(str(name), 40)}")

    def _parts(self, parts: list[Any], where: str) -> Any:
        texts: list[str] = []
        kept: list[dict[str, Any]] = []
        for place, part in enumerate(parts):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "refusal") and isinstance(part.get(kind), str):
                texts.append(part[kind])
                kept.append({"type": "text", "text": part[kind]})
            elif kind == "image_url" and _is_here(part.get("image_url")):
                kept.append({"type": kind, "image_url": {"url": part["image_url"]["url"]}})
                if "detail" in part["image_url"]:
                    self.ignored.append(f"{where}.content[{place}].image_url.detail")
            elif isinstance(kind, str):
                self.unsupported.append(f"{where}.content[{place}] ({plain_text(kind, 40)})")
            else:
                raise InvalidValueError(f"{where}.content[{place}] has no type that is known.")
        if len(texts) == len(parts):
            return "".join(texts)
        return kept if len(kept) == len(parts) else parts

    def _n(self, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 128:
            raise InvalidValueError(f"n is {value!r:.40}; it is from 1 to 128.")
        self.num_samples = value

    def _most(self, name: str, value: Any) -> None:
        both = self.sampling.get("max_tokens", value)
        if both != value:
            raise InvalidValueError(f"max_tokens and {name} differ: {both!r:.20}, {value!r:.20}.")
        self.sampling["max_tokens"] = value

    def _response_format(self, value: Any) -> None:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "json_object":
            self.sampling["schema"] = {"type": "object"}
        elif kind == "json_schema":
            inner = value.get("json_schema")
            schema = inner.get("schema") if isinstance(inner, dict) else None
            if schema is None:
                raise InvalidValueError("response_format.json_schema has no schema.")
            self.sampling["schema"] = schema
        elif kind != "text":
            self.unsupported.append(f"response_format ({plain_text(str(kind), 40)})")

    def _logprobs(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise InvalidValueError(f"logprobs is {value!r:.40}; it is true or false.")
        if value:
            self.sampling.setdefault("logprobs", 0)
        elif self._body.get("top_logprobs"):
            raise InvalidValueError("top_logprobs needs logprobs to be true.")

    def _top_logprobs(self, value: Any) -> None:
        if self._body.get("logprobs") is not True and value:
            raise InvalidValueError("top_logprobs needs logprobs to be true.")
        if self._body.get("logprobs") is True:
            self.sampling["logprobs"] = value

    def _logit_bias(self, value: Any) -> None:
        try:
            self.sampling["logit_bias"] = {int(token): bias for token, bias in value.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidValueError("logit_bias is not an object from token to number.") from error

    def _stream(self, value: Any) -> None:
        (self.unsupported if value else self.ignored).append("stream")

    def _modalities(self, value: Any) -> None:
        (self.ignored if value == ["text"] else self.unsupported).append("modalities")
