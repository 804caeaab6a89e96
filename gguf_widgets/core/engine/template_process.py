"""The process that renders chat templates; `chat_template.py` starts it and talks to it.

A template is a program that came with a model file, so it runs in Jinja's sandbox, in a process
that has nothing and is limited in memory, CPU time and output. Promises: it answers every request
with a text or with what went wrong; it ends when its standard input closes; it writes to nothing
but its standard output. Leaves to others: the limit on wall time (the other side kills it).

Run as a file, not as a module, with nothing of this package imported: it starts in a tenth of a
second. Messages are JSON with a length of four bytes in front.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import struct
import sys
from typing import Any, BinaryIO, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LENGTH = struct.Struct(">I")


class _RefusedError(Exception):
    """The template called raise_exception()."""


class _TooLongError(Exception):
    """The output is longer than allowed."""


class _GenerationBlocks(jinja2.ext.Extension):
    """Understands ``{% generation %}``, which marks the model's own words when it is trained.

    For rendering it means nothing.
    """

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Replace the block by what is inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Hugging Face's own: Jinja's tojson would escape < and > for HTML.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> NoReturn:
    raise _RefusedError(str(message))


def _strftime_now(pattern: str) -> str:
    return dt.datetime.now().astimezone().strftime(pattern)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlocks, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _Renderer:
    def __init__(self) -> None:
        self._environment = _environment()
        self._source: str | None = None
        self._template: jinja2.Template | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"text": self._render(**request)}
        except _RefusedError as error:
            return _problem("refused", str(error))
        except jinja2.TemplateSyntaxError as error:
            return _problem("syntax", f"line {error.lineno}: {error.message}")
        except _TooLongError:
            return _problem("output", "")
        except MemoryError:
            return _problem("memory", "")
        except Exception as error:  # noqa: BLE001 - a template may raise anything; it is reported
            return _problem("failed", f"{type(error).__name__}: {error}")

    def _render(self, source: str, context: dict[str, Any], max_output: int) -> str:
        if self._template is None or source != self._source:
            self._template = self._environment.from_string(source)
            self._source = source
        parts, length = [], 0
        for part in self._template.generate(context):
            length += len(part)
            if length > max_output:
                raise _TooLongError
            parts.append(part)
        return "".join(parts)


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"problem": kind, "message": message[:1000]}


def _limit_memory(num_bytes: int) -> None:
    if resource is not None:
        # macOS does not keep to this limit and may refuse it; the limits on time remain.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))


def _limit_cpu(seconds: float) -> None:
    """Let the system end this process when it has computed for so long from now on."""
    if resource is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def main(max_bytes: int, max_cpu_s: float) -> None:
    """Answer requests until standard input closes."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever prints must not get between the messages
    renderer = _Renderer()
    renderer.answer({"source": "{{ 1 }}", "context": {}, "max_output": 1})  # warm up
    _limit_memory(max_bytes)
    _write(answers, {"ready": True})
    while True:
        request = _read(requests)
        if request is None:
            return
        _limit_cpu(max_cpu_s)
        _write(answers, renderer.answer(request))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
