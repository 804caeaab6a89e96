"""The command ``bench``: how fast models are on this machine, from a terminal.

Promises: standard output has the result alone (a table, Markdown, CSV or JSON); how far it is, what
disturbs it and what fails go to standard error. Ctrl+C stops it, prints what was measured and keeps
it. The short options are llama-bench's, and several numbers are given as there: ``-d 0,4096``.
Leaves to others: measuring (`core.bench`), errors (`cli`).

The exit status
---------------
===  ===============================================================================================
0    everything was measured
1    nothing could be measured; standard error says why
2    a wrong argument
3    something was measured, and a model or a test failed
130  it was ended by Ctrl+C; what had been measured is printed and kept
===  ===============================================================================================
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.core.bench import BenchResult

__all__ = ["add_commands"]

_INTERRUPTED: Final = 130  # the shell's own number for "ended by Ctrl+C"
_SOME_FAILED: Final = 3
_OUTPUTS: Final = ("table", "md", "csv", "json")

_STATUSES: Final = (
    "exit status: 0 everything was measured; 1 nothing could be; 2 a wrong argument; 3 a model or "
    "a test failed; 130 ended by Ctrl+C, what was measured is printed and kept."
)

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the command to the program's own.

    Parameters
    ----------
    add : callable
        Takes a name, a function of the arguments that returns the exit status, and a summary;
        returns the command's parser.
    """
    command = add("bench", _bench, "Measure how fast models are on this machine.")
    command.epilog = _STATUSES
    command.add_argument("models", nargs="*", metavar="MODEL", help="names or paths (demo)")
    _test_arguments(command)
    _load_arguments(command)
    command.add_argument(
        "-o", "--output", choices=_OUTPUTS, default="table", help="what is printed (table)"
    )
    command.add_argument("--out", metavar="FILE", help="also write it there: .csv, .json or .md")
    command.add_argument("--replace", action="store_true", help="with --out: it may be there")
    command.add_argument("--quiet", action="store_true", help="do not show how far it is")
    command.add_argument(
        "--no-keep", action="store_true", help="do not keep the speeds, nor compare them"
    )
    command.add_argument(
        "--history",
        action="store_true",
        help="measure nothing: print what was measured here earlier (of these models)",
    )


def _test_arguments(command: argparse.ArgumentParser) -> None:
    for options, default, words in (
        (("-p", "--n-prompt"), 512, "read prompts of N tokens (512; 0: none)"),
        (("-n", "--n-gen"), 128, "write N tokens (128; 0: none)"),
        (("-d", "--n-depth"), 0, "with N tokens in the context already (0)"),
        (("-s", "--n-seq"), 1, "with N sequences at once (1)"),
    ):
        command.add_argument(
            *options, type=_numbers, default=(default,), metavar="N,...", help=words
        )
    command.add_argument(
        "-pg",
        type=_pair,
        action="append",
        default=[],
        metavar="P,G",
        help="read P tokens, then write G, as one test; may be given several times",
    )
    command.add_argument(
        "-r", "--repetitions", type=int, default=5, metavar="N", help="of each test (5)"
    )
    command.add_argument("--no-warmup", action="store_true", help="no trial before each test")
    command.add_argument(
        "--delay", type=float, default=0.0, metavar="S", help="pause before each test, in seconds"
    )


_LOADING: Final[tuple[tuple[tuple[str, ...], str, Callable[[str], Any], str], ...]] = (
    (("-t", "--threads"), "n_threads", int, "compute threads"),
    (("-b", "--batch-size"), "n_batch", int, "tokens in a batch"),
    (("-ub", "--ubatch-size"), "n_ubatch", int, "tokens computed at once"),
    (("-ngl", "--n-gpu-layers"), "n_gpu_layers", int, "layers on the GPU; -1 is all"),
    (("-ctk", "--cache-type-k"), "type_k", str, "the KV cache's number format: f16, q8_0, ..."),
    (("-ctv", "--cache-type-v"), "type_v", str, "the same for the values"),
)


def _load_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "how it is loaded", "several values, as in -t 1,2,4: each model is measured with each"
    )
    for options, name, kind, words in _LOADING:
        group.add_argument(*options, dest=name, type=_several(kind), metavar="X,...", help=words)
    group.add_argument(
        "-fa",
        "--flash-attn",
        dest="flash_attn",
        type=_several(_yes_or_no),
        metavar="0,1",
        help="flash attention",
    )
    group.add_argument("--force", action="store_true", help="load it even if memory looks short")


# -- the command ----------------------------------------------------------------------------------


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.history:
        return _history(arguments)
    _check_out(arguments)
    import gguf_widgets

    settings = {name: getattr(arguments, name) for _, name, _, _ in _LOADING}
    settings["flash_attn"] = arguments.flash_attn
    given = {name: values for name, values in settings.items() if values is not None}
    variants = [
        dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())
    ]
    result: BenchResult = gguf_widgets.bench(
        arguments.models or ["demo"],
        n_prompt=arguments.n_prompt,
        n_gen=arguments.n_gen,
        pg=arguments.pg,
        depths=arguments.n_depth,
        n_seq=arguments.n_seq,
        repetitions=arguments.repetitions,
        warmup=not arguments.no_warmup,
        delay_s=arguments.delay,
        variants=variants,
        keep=not arguments.no_keep,
        force=arguments.force,
        progress=not arguments.quiet,
    )
    return _ended(result, arguments)


def _ended(result: BenchResult, arguments: argparse.Namespace) -> int:
    stopped = result.status == "stopped"
    if len(result):
        _put(_printed(result, arguments.output))
    said = [] if arguments.quiet else result.said()  # already, when it happened
    for sentence in [*map(str, result.failures), *result.notes]:
        if sentence not in said:
            _say(sentence)
    if arguments.out is not None and len(result):
        _say(f"Written: {result.save(arguments.out, replace=arguments.replace)}")
    if stopped:
        kept = "" if arguments.no_keep else " and kept"
        _say(
            f"Stopped. What had been measured is printed{kept}."
            if len(result)
            else "Stopped before anything was measured."
        )
        return _INTERRUPTED
    if not len(result):
        return 1
    return _SOME_FAILED if result.failures else 0


def _printed(result: BenchResult, output: str) -> str:
    if output == "table":
        from gguf_widgets.core.bench import table

        rows = result.rows
        return f"{table.as_text(rows)}\n\n{rows[0].machine}\n{rows[0].engine}\n"
    makers = {"md": result.to_markdown, "csv": result.to_csv, "json": result.to_json}
    return makers[output]()


def _history(arguments: argparse.Namespace) -> int:
    import gguf_widgets
    from gguf_widgets.core.bench import table

    found = gguf_widgets.bench_history()
    if arguments.models:
        wanted = [name.casefold() for name in arguments.models]
        found[:] = [row for row in found if any(one in row.model.name.casefold() for one in wanted)]
    printed = {
        "table": lambda: f"{found!r}\n",
        "md": lambda: table.as_markdown(found, dates=True),
        "csv": lambda: table.as_csv(found),
        "json": lambda: table.as_json(found),
    }[arguments.output]()
    _put(printed)
    if arguments.out is not None:
        _say(f"Written: {found.save(arguments.out, replace=arguments.replace)}")
    return 0


def _check_out(arguments: argparse.Namespace) -> None:
    """Refuse, before minutes of work, a file that could not be written in the end."""
    from gguf_widgets.core.bench.table import FORMATS

    if arguments.out is None:
        if arguments.replace:
            raise InvalidValueError("--replace goes with --out FILE.")
        return
    path = Path(arguments.out)
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        raise InvalidValueError(
            f"{plain_text(path.name)!r} does not say by its ending what it is to be. Known are "
            f"{', '.join(f'.{one}' for one in FORMATS)}."
        )
    if not path.absolute().parent.is_dir():
        raise InvalidValueError(f"There is no folder {plain_text(str(path.absolute().parent))}.")
    if path.exists() and not arguments.replace:
        raise InvalidValueError(
            f"{plain_text(str(path))} is there already. Give another name, or --replace."
        )


# -- arguments ------------------------------------------------------------------------------------


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_several(int)(text))


def _pair(text: str) -> tuple[int, int]:
    numbers = _numbers(text)
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair of numbers, such as 512,128")
    return numbers[0], numbers[1]


def _several(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        try:
            return [kind(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no list of such values, such as 1,2"
            ) from error

    return read


def _yes_or_no(text: str) -> bool:
    values = {"0": False, "off": False, "no": False, "1": True, "on": True, "yes": True}
    if text.casefold() not in values:
        raise ValueError
    return values[text.casefold()]


def _put(text: str) -> None:
    sys.stdout.write(text)


def _say(text: str) -> None:
    sys.stderr.write(f"{plain_text(text, 2000)}\n")
    sys.stderr.flush()
