"""The command ``run``: a prompt over every row of a table, from a terminal.

Promises: standard output has the result alone (the path of the file, a list, or JSON); how far it
is goes to standard error, as one line that changes on a terminal and as a line now and then
elsewhere. Ctrl+C stops the run, keeps what is done and says how to go on. Nothing is imported
before the command runs. Leaves to others: the work (`batch`), the list (`cli_runs`), errors
(`cli`).

The exit status
---------------
===  ===============================================================================================
0    every row is done, or was skipped because a value is missing and ``--missing skip`` was given
1    it could not be begun, or could not go on; standard error says why
2    a wrong argument
3    it has finished, and some rows failed; ``--retry-failed`` asks those again
130  it was ended by Ctrl+C; what is done is kept
===  ===============================================================================================
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.cli_runs import RunLine, facts_of
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.batch.files import RowSource
    from gguf_widgets.batch.run import BatchRun

__all__ = ["add_commands"]

_INTERRUPTED: Final = 130  # the shell's own number for "ended by Ctrl+C"
_SOME_FAILED: Final = 3
_LOOK_S: Final = 0.25
_MOST_SCHEMA_BYTES: Final = 4 << 20

_SAMPLING: Final[tuple[tuple[str, Callable[[str], Any], str], ...]] = (
    ("temperature", float, "0 takes the likeliest word each time (0)"),
    ("top_k", int, "choose among so many words"),
    ("top_p", float, "choose among the likeliest words that make up this share"),
    ("min_p", float, "leave out words less likely than this share of the likeliest"),
    ("repeat_penalty", float, "above 1: repeat less"),
    ("seed", int, "the same seed gives the same answers"),
    ("max_tokens", int, "the longest answer"),
)
_LOADING: Final[tuple[tuple[str, str], ...]] = (
    ("n_ctx", "tokens of context (default: chosen to fit)"),
    ("n_gpu_layers", "layers on the GPU; -1 is all"),
    ("n_seq_max", "rows that are computed side by side"),
)
_READING: Final = ("format", "encoding", "delimiter", "sheet", "ragged")

_STATUSES: Final = (
    "exit status: 0 every row is done (or was skipped on purpose); 1 it could not be begun or "
    "could not go on; 2 a wrong argument; 3 finished, and some rows failed; 130 ended by Ctrl+C, "
    "what is done is kept."
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
    command = add("run", _run, "Ask a model about every row of a table, and keep every answer.")
    command.epilog = _STATUSES
    command.add_argument(
        "table",
        nargs="?",
        help="a file: CSV, TSV, JSON, JSONL, TXT (one row a line), Excel, Parquet, or requests of "
        "OpenAI's batch interface (their results go to a .jsonl file)",
    )
    command.add_argument("--model", help="a name or a path (demo)")
    _what_arguments(command)
    _where_arguments(command)
    for name, kind, words in _SAMPLING:
        command.add_argument(_option(name), type=kind, help=words)
    command.add_argument("--stop", action="append", metavar="TEXT", help="end an answer before it")
    for name, words in _LOADING:
        command.add_argument(_option(name), type=int, help=words)
    command.add_argument("--force", action="store_true", help="load it even if memory looks short")


def _what_arguments(command: argparse.ArgumentParser) -> None:
    prompt = command.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="with the table's columns in it: 'Translate: {text}'")
    prompt.add_argument("--prompt-file", metavar="FILE", help="the same, from a text file")
    command.add_argument("--system", help="the system prompt: what the model should be and do")
    answer = command.add_mutually_exclusive_group()
    answer.add_argument("--schema", metavar="FILE", help="a JSON schema; its parts become columns")
    answer.add_argument("--choices", metavar="A,B,C", help="the answer is one of these")
    command.add_argument(
        "--missing",
        choices=["refuse", "skip", "empty"],
        help="what to do where a value that the prompt uses is missing (refuse)",
    )
    command.add_argument("--n", type=int, metavar="N", help="ask each row N times (1)")
    command.add_argument("--title", help="what the run is called in lists")


def _where_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", metavar="FILE", help="write the result there, in the format of its ending"
    )
    command.add_argument(
        "--replace", action="store_true", help="with --out: the file may be there already"
    )
    command.add_argument("--resume", metavar="ID", help="go on with a run, or watch one going on")
    command.add_argument(
        "--retry-failed", action="store_true", help="with --resume: ask rows again that failed"
    )
    command.add_argument(
        "--background", action="store_true", help="start it, and do not wait for its end"
    )
    command.add_argument(
        "--check", action="store_true", help="only tell what the run would be like"
    )
    command.add_argument("--json", action="store_true", help="print what came of it as JSON")
    command.add_argument("--format", help="of the table, if its content does not say it")
    command.add_argument("--encoding", help="of the table, if it is not found")
    command.add_argument("--delimiter", help="of a CSV, if it is not found")
    command.add_argument("--sheet", help="of an Excel file (the first)")
    command.add_argument(
        "--ragged",
        choices=["refuse", "fill", "skip"],
        help="what to do about rows of a CSV with too few or too many cells (refuse)",
    )


# -- run -------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    _check_out(arguments)
    if arguments.resume is not None:
        run = _resumed(arguments)
    else:
        if arguments.retry_failed:
            raise InvalidValueError("--retry-failed goes with --resume ID.")
        prepared = _prepared(arguments)
        if arguments.check:
            return _checked(prepared)
        run = prepared.start(own_process=arguments.background)
    if arguments.background:
        _say(
            f"Run {run.id[:8]} goes on in the background. To watch it: "
            f"{_command('run', '--resume', run.id[:8])}"
        )
        return _put(json.dumps({"id": run.id}) if arguments.json else run.id)
    return _waited(run, arguments)


def _prepared(arguments: argparse.Namespace) -> BatchRun:
    """Read the table and make the run; nothing has been asked then."""
    from gguf_widgets.batch.files import Format
    from gguf_widgets.batch.processor import BatchProcessor
    from gguf_widgets.core.manager import default_manager

    if arguments.table is None:
        raise InvalidValueError(
            "Say which table: gguf-widgets run FILE --prompt '...', or go on with a run: "
            "gguf-widgets run --resume ID. The runs are listed by: gguf-widgets runs"
        )
    source = _source(arguments)
    is_requests = source.format is Format.OPENAI
    if is_requests:
        _refuse_for_requests(arguments)
    prompt = "" if is_requests else _prompt(arguments)
    schema = _schema(arguments)
    for note in source.notes:
        _say(plain_text(note, 2000))
    settings = {name: getattr(arguments, name) for name, _ in _LOADING}
    model = default_manager().load(
        arguments.model or "demo",
        force=arguments.force,
        **{name: value for name, value in settings.items() if value is not None},
    )
    reason = default_manager().demo_reason()
    if reason:
        _say(plain_text(reason, 2000))
    sampling = {name: getattr(arguments, name) for name, _, _ in _SAMPLING}
    sampling["stop"] = arguments.stop
    sampling = {name: value for name, value in sampling.items() if value is not None}
    if is_requests:
        processor = BatchProcessor(model)
        return processor.prepare_requests(source, title=arguments.title or "", **sampling)
    return BatchProcessor(model).prepare(
        _table(source),
        prompt,
        schema=schema,
        system=arguments.system,
        n=1 if arguments.n is None else arguments.n,
        missing=arguments.missing or "refuse",
        title=arguments.title or "",
        **sampling,
    )


def _refuse_for_requests(arguments: argparse.Namespace) -> None:
    """Refuse what each of OpenAI's requests says itself."""
    given = ("prompt", "prompt_file", "system", "schema", "choices", "missing", "n")
    wrong = [_option(name) for name in given if getattr(arguments, name) is not None]
    if wrong:
        raise InvalidValueError(
            f"{plain_text(arguments.table)} holds requests of OpenAI's batch interface, each with "
            f"its own messages and answers; leave out {', '.join(wrong)}. (If they are plain rows, "
            "give --format jsonl.)"
        )


def _source(arguments: argparse.Namespace) -> RowSource:
    from gguf_widgets.batch import files

    how = {name: getattr(arguments, name) for name in _READING}
    if how["sheet"] is not None and how["sheet"].isdigit():
        how["sheet"] = int(how["sheet"])
    source = files.read(
        arguments.table, **{name: value for name, value in how.items() if value is not None}
    )
    if not source.num_rows:
        raise TableFileError(f"{plain_text(source.name, 80)} has no rows.", problem="empty")
    return source


def _table(source: RowSource) -> Any:
    from gguf_widgets.batch.table_rows import Table

    dtypes = source.dtypes
    columns = [{"name": name, "dtype": dtypes[name]} for name in source.columns]
    return Table(columns, source.tuples(), source.num_rows)


def _prompt(arguments: argparse.Namespace) -> str:
    if arguments.prompt_file is not None:
        return _text_of(arguments.prompt_file, "--prompt-file")
    if not arguments.prompt:
        raise InvalidValueError(
            "Say what to ask: --prompt 'Translate to French: {text}', with the table's columns in "
            "curly brackets."
        )
    return str(arguments.prompt)


def _schema(arguments: argparse.Namespace) -> Any:
    if arguments.choices is not None:
        choices = [one.strip() for one in arguments.choices.split(",")]
        if not all(choices):
            raise InvalidValueError(f"--choices has an empty one: {arguments.choices!r:.80}.")
        return choices
    if arguments.schema is None:
        return None
    text = _text_of(arguments.schema, "--schema")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"{plain_text(arguments.schema)} is not JSON: {error}. --schema takes a file that "
            "holds a JSON schema."
        ) from error
    if not isinstance(schema, dict):
        raise InvalidValueError(
            f"{plain_text(arguments.schema)} holds a {type(schema).__name__}; a JSON schema is an "
            "object. For a list of answers use --choices."
        )
    return schema


def _text_of(name: str, option: str) -> str:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MOST_SCHEMA_BYTES + 1)
        if len(data) > _MOST_SCHEMA_BYTES:
            raise InvalidValueError(f"{option}: {plain_text(name)} has more than 4 MiB.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidValueError(
            f"{option}: {plain_text(name)} cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"{option}: {plain_text(name)} is not text in UTF-8 ({error.reason} at byte "
            f"{error.start:,})."
        ) from error


def _resumed(arguments: argparse.Namespace) -> BatchRun:
    """Find a run, and go on with it unless somebody is at it or nothing is left."""
    from gguf_widgets.batch.run import BatchRun
    from gguf_widgets.batch.steering import IN_HAND
    from gguf_widgets.core.manager import default_manager
    from gguf_widgets.core.store.batch_runs import BatchRuns
    from gguf_widgets.core.store.store import default_store

    _refuse_others(arguments)
    store = default_store()
    run = BatchRun(BatchRuns(store).find(arguments.resume).id, store, default_manager())
    if run.status in IN_HAND:
        if arguments.retry_failed:
            raise InvalidValueError(
                "The run is going on; --retry-failed is for one that has ended."
            )
        _say(f"Run {run.id[:8]} is being carried out by another process; this only watches it.")
        return run
    counts = run.counts
    if arguments.retry_failed and counts.failed:
        return run.retry_failed(own_process=arguments.background)
    return run.start(own_process=arguments.background) if counts.waiting else run


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Refuse what says what to ask: a run has that from its beginning."""
    given = ["table", "model", "prompt", "prompt_file", "system", "schema", "choices", "missing"]
    given += ["n", "title", "stop", *_READING]
    given += [name for name, _, _ in _SAMPLING] + [name for name, _ in _LOADING]
    wrong = [name for name in given if getattr(arguments, name) is not None]
    if arguments.check:
        wrong.append("check")
    if wrong:
        shown = ", ".join("the table" if name == "table" else _option(name) for name in wrong)
        raise InvalidValueError(f"With --resume a run goes on as it was begun; leave out {shown}.")


def _check_out(arguments: argparse.Namespace) -> None:
    """Refuse, before hours of work, a file that could not be written in the end."""
    from gguf_widgets.batch.files.formats import Format, format_of_name

    if arguments.out is None:
        if arguments.replace:
            raise InvalidValueError("--replace goes with --out FILE.")
        return
    if arguments.background or arguments.check:
        raise InvalidValueError(
            "--out is written at the end of a run that is waited for. Leave it out here, and write "
            "the file later: gguf-widgets run --resume ID --out FILE"
        )
    path = Path(arguments.out)
    if format_of_name(path.name) in (None, Format.OPENAI):
        raise InvalidValueError(
            f"{plain_text(path.name)!r} does not say by its ending what it is to be. Known are "
            ".csv, .tsv, .json, .jsonl, .xlsx and .parquet."
        )
    if not path.absolute().parent.is_dir():
        raise InvalidValueError(f"There is no folder {plain_text(str(path.absolute().parent))}.")
    if path.exists() and not arguments.replace:
        raise InvalidValueError(
            f"{plain_text(str(path))} is there already. Give another name, or --replace."
        )


def _checked(run: BatchRun) -> int:
    """Tell what the run would be like, and leave nothing behind."""
    from gguf_widgets.core.store.batch_runs import BatchRuns
    from gguf_widgets.core.store.store import default_store

    try:
        return _put(str(run.preflight(sample=0)))
    finally:
        BatchRuns(default_store()).discard(run.id)


def _waited(run: BatchRun, arguments: argparse.Namespace) -> int:
    """Wait for the end, show how far it is, and say what came of it."""
    was_here = run.is_here
    with RunLine(sys.stderr) as line:
        try:
            while True:
                line.update(run.progress)
                try:
                    run.wait(_LOOK_S)
                    break
                except TimeoutError:
                    continue
        except KeyboardInterrupt:
            counts = run.counts
            stopped = "Stopped." if was_here else "You no longer watch it; it goes on."
            again = _command("run", "--resume", run.id[:8], *_again(arguments))
            line.note(
                f"{stopped} {counts.ended:,} of {counts.total:,} rows have ended and are kept. To "
                f"{'go on' if was_here else 'watch it again'}: {again}"
            )
            return _INTERRUPTED
        line.note(str(run.progress))
    return _ended(run, arguments)


def _ended(run: BatchRun, arguments: argparse.Namespace) -> int:
    from gguf_widgets.batch.saving import save_run
    from gguf_widgets.core.store.batch_runs import BatchRuns
    from gguf_widgets.core.store.batch_tasks import RunTasks
    from gguf_widgets.core.store.store import default_store

    counts = run.counts
    path = None
    if arguments.out is not None:
        store = default_store()
        record = BatchRuns(store).get(run.id)
        tasks = RunTasks(store, run.id)
        written = save_run(arguments.out, record, run.spec, tasks)
        for note in written.notes:
            _say(plain_text(note, 2000))
        path = written.path
    elif not arguments.json:
        again = _command("run", "--resume", run.id[:8], "--out", "result.csv")
        _say(f"The result is kept as run {run.id[:8]}. To write it to a file: {again}")
    if counts.failed:
        again = _command("run", "--resume", run.id[:8], "--retry-failed", *_again(arguments))
        _say(f"{counts.failed:,} rows failed. To ask them again: {again}")
    if arguments.json:
        _put(json.dumps({**facts_of(run), "out": str(path) if path else None}, indent=2))
    elif path is not None:
        _put(str(path))
    return _SOME_FAILED if counts.failed else 0 if not counts.waiting else 1


def _again(arguments: argparse.Namespace) -> list[str]:
    out = [] if arguments.out is None else ["--out", arguments.out]
    return [*out, *(["--replace"] if arguments.replace else [])]


# -- words -----------------------------------------------------------------------------------------


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _command(*arguments: str) -> str:
    return shlex.join(["gguf-widgets", *arguments])


def _put(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
