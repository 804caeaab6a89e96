"""The ``gguf-widgets`` command: thin wrappers over the library.

Promises: an error of this package prints as one sentence on stderr with exit status 1; a wrong
argument is argparse's business (status 2); anything unexpected prints its traceback and whom to
tell. Each command imports what it needs when it runs, so that ``--help`` is quick. Leaves to
others: everything that a command does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf_widgets
from gguf_widgets.cli_bench import add_commands as add_bench_command
from gguf_widgets.cli_care import add_commands as add_care_commands
from gguf_widgets.cli_get import add_commands as add_get_command
from gguf_widgets.cli_replay import add_commands as add_replay_command
from gguf_widgets.cli_run import add_commands as add_run_command
from gguf_widgets.cli_runs import add_commands as add_runs_command
from gguf_widgets.core.errors import GgufWidgetsError

__all__ = ["main"]

_DESCRIPTION = "Run GGUF language models on your own machine, from Jupyter or the terminal."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; default: those of this process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its number, as it does in our error messages.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except GgufWidgetsError as error:
        print(f"gguf-widgets: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # the shell's own number for "ended by Ctrl+C"
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough; nothing more may be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        print(
            "gguf-widgets met an error that it did not expect. Please report the lines below "
            "together with what `gguf-widgets doctor` prints.\n",
            file=sys.stderr,
        )
        raise
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gguf-widgets", description=_DESCRIPTION)
    parser.add_argument(
        "--version", action="version", version=f"gguf-widgets {gguf_widgets.__version__}"
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], summary: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        return command

    command = add("dashboard", _dashboard, "Open the dashboard in your browser.")
    _server_arguments(command, port=8866)
    command.add_argument("--theme", choices=["light", "dark"], default="light")
    command.add_argument(
        "--browse",
        action="append",
        default=[],
        metavar="FOLDER",
        help="let visitors choose model files in this folder, in place; may be given several times "
        "(default: your own folders, and none where other machines are served)",
    )
    command.add_argument("--verbose", action="store_true", help="log what the server does")

    command = add("lab", _lab, "Open the notebooks in JupyterLab.")
    _server_arguments(command, port=8888)
    command.add_argument(
        "jupyter",
        nargs="*",
        metavar="-- ARGUMENT",
        help="after --: arguments for JupyterLab itself",
    )

    command = add("chat", _chat, "Talk with a model in the terminal. Reads a pipe, too.")
    command.add_argument("model", nargs="?", default="demo", help="a name or a path (demo)")
    command.add_argument("--system", help="the system prompt: what the model should be and do")
    command.add_argument("--temperature", type=float, help="0 takes the likeliest word each time")
    command.add_argument("--seed", type=int, help="the same seed gives the same answer")
    command.add_argument("--max-tokens", type=int, help="the longest answer")
    command.add_argument("--n-ctx", type=int, help="tokens of context (default: chosen to fit)")
    command.add_argument("--n-gpu-layers", type=int, help="layers on the GPU; -1 is all")
    command.add_argument("--force", action="store_true", help="load it even if memory looks short")

    command = add("inspect", _inspect, "Print what a GGUF file holds, without loading it.")
    command.add_argument("file")
    command.add_argument("--json", action="store_true", help="for programs")

    command = add("models", _models, "List every model that was found.")
    command.add_argument("--json", action="store_true", help="for programs")

    add_get_command(add)
    add_run_command(add)
    add_runs_command(add)
    add_replay_command(add)
    add_bench_command(add)
    add_care_commands(add)

    command = add("ps", _ps, "List the models that are running on this machine.")
    command.add_argument("--json", action="store_true", help="for programs")

    command = add("stop", _stop, "End a running model, whoever uses it, and free its memory.")
    command.add_argument(
        "model", nargs="?", help="its name, file or process (default: the only one)"
    )
    command.add_argument("--all", action="store_true", help="end every running model")

    command = add("doctor", _doctor, "Print what was found here, and what to do about each fault.")
    command.add_argument("--json", action="store_true", help="for programs")
    return parser


def _server_arguments(command: argparse.ArgumentParser, port: int) -> None:
    command.add_argument(
        "--port", type=int, default=port, help=f"the first to try (default: {port}; 0: any)"
    )
    command.add_argument(
        "--ip",
        default="localhost",
        help="the address to listen on (default: this machine only; 0.0.0.0: all its networks)",
    )
    command.add_argument(
        "--token",
        nargs="?",
        const="",
        help="what a visitor must bring; without a value one is made and printed",
    )
    command.add_argument("--no-browser", action="store_true", help="do not open a browser")


def _dashboard(arguments: argparse.Namespace) -> int:
    from gguf_widgets.dashboard.app import DashboardOptions, serve

    return serve(
        DashboardOptions(
            ip=arguments.ip,
            port=arguments.port,
            token=arguments.token,
            open_browser=not arguments.no_browser,
            theme=arguments.theme,
            browse=[Path(folder) for folder in arguments.browse],
            verbose=arguments.verbose,
        )
    )


def _lab(arguments: argparse.Namespace) -> int:
    from gguf_widgets.dashboard.lab import open_lab

    return open_lab(
        ip=arguments.ip,
        port=arguments.port,
        token=arguments.token,
        open_browser=not arguments.no_browser,
        extra=arguments.jupyter,
    )


def _chat(arguments: argparse.Namespace) -> int:
    from gguf_widgets.cli_chat import chat_in_terminal

    sampling = {name: getattr(arguments, name) for name in ("temperature", "seed", "max_tokens")}
    settings = {name: getattr(arguments, name) for name in ("n_ctx", "n_gpu_layers")}
    return chat_in_terminal(
        arguments.model,
        system=arguments.system,
        sampling={name: value for name, value in sampling.items() if value is not None},
        settings={name: value for name, value in settings.items() if value is not None},
        force=arguments.force,
    )


def _inspect(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.gguf import read_header
    from gguf_widgets.core.inspect import describe, to_json

    header = read_header(arguments.file)
    print(json.dumps(to_json(header), indent=2) if arguments.json else describe(header))
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.config import models_dir
    from gguf_widgets.core.errors import to_wire
    from gguf_widgets.core.library import models

    found = models()
    if arguments.json:
        rows = [
            {
                "name": entry.name,
                "path": str(entry.path),
                "source": entry.source,
                "info": entry.info.to_dict() if entry.info else None,
                "error": to_wire(entry.error) if entry.error else None,
            }
            for entry in found
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(f"{found!r}\n\nPut more models (.gguf files) into {models_dir()}")
    return 0


def _ps(arguments: argparse.Namespace) -> int:
    from gguf_widgets.cli_workers import ps

    print(ps(as_json=arguments.json))
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    from gguf_widgets.cli_workers import stop

    text, status = stop(arguments.model, every=arguments.all)
    print(text)
    return status


def _doctor(arguments: argparse.Namespace) -> int:
    from gguf_widgets.core.doctor import examine, to_text

    report = examine()
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else to_text(report))
    return 1 if report.broken else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        raise SystemExit(main())
