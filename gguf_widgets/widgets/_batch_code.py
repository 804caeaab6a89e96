"""The cell that repeats a batch run: Python that asks the same of the same model.

Promises: the code runs, and the run that it makes has the same prompts, output, sampling and rule
for missing values as the one it was made from (a test carries it out). Where the notebook gave the
table, its name is not known: it is called `df`, and a comment says so. Leaves to others: the
clipboard (static/_copy.js).
"""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from typing import Any

from gguf_widgets.batch.images import ImageColumns
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import GgufWidgetsError

__all__ = ["code_of"]

_WIDTH = 88


def code_of(
    spec: Spec,
    columns: list[str],
    *,
    path: str = "",
    file_name: str = "",
    read_with: Mapping[str, Any] | None = None,
) -> str:
    """Return the cell.

    Parameters
    ----------
    spec : Spec
    columns : list of str
        The table's.
    path : str
        Of the table's file, if it is known.
    file_name : str
        Its name, where only that is known: it came through the page.
    read_with : mapping, optional
        How the file was read, where that was not found but chosen.
    """
    imports = ["import gguf_widgets as gw"]
    arguments = _arguments(spec)
    if any("Output.from_dict" in one for one in arguments):
        imports.append("from gguf_widgets.batch.output import Output")
    if any(one.startswith("images=ImageColumns(") for one in arguments):
        imports.append("from gguf_widgets.batch.images import ImageColumns")
    table = []
    if path or file_name:
        imports.append("from gguf_widgets.batch import files")
        note = "" if path else "  # put the folder of the file in front"
        options = "".join(f", {key}={_plain(value)}" for key, value in (read_with or {}).items())
        table.append(f"df = files.read({path or file_name!r}{options}).to_frame(){note}")
    else:
        shown = ", ".join(repr(name) for name in columns[:20])
        with_them = f" with the column{'s' * (len(columns) > 1)} {shown}" if columns else ""
        table.append(f"# df is your table, a DataFrame{with_them}")
    models = [_model(one) for one in spec.models]
    lines = [*imports, ""]
    if len(models) == 1:
        lines += [f"model = {models[0]}", *table, ""]
        lines.append("run = model.map(")
    else:
        lines += ["models = [", *(f"    {one}," for one in models), "]", *table, ""]
        lines.append("run = gw.BatchProcessor(models).run(")
    lines.append("    df,")
    lines += [f"    {argument}," for argument in arguments]
    lines += [")", "run.to_frame()"]
    return "\n".join(lines) + "\n"


def _model(reference: ModelRef) -> str:
    settings = dict(reference.settings)
    if reference.chat_template is not None:
        settings["chat_template"] = reference.chat_template
    name = "demo" if reference.name == "demo" else reference.path
    given = [repr(name), *(f"{key}={_literal(value, 8)}" for key, value in settings.items())]
    line = f"gw.load({', '.join(given)})"
    if len(line) <= _WIDTH:
        return line
    lines = [""]
    for one in given:
        if lines[-1] and len(lines[-1]) + len(one) > _WIDTH - 6:
            lines.append("")
        lines[-1] += f"{one}, "
    return "gw.load(\n" + "".join(f"    {line.rstrip()}\n" for line in lines) + ")"


def _arguments(spec: Spec) -> list[str]:
    if len(spec.prompts) == 1:
        prompt = spec.prompts[0]
        asked, system = _asked(prompt)
        given = [_literal(asked)]
        schema = _schema(prompt.output)
        if schema != "None":
            given.append(f"schema={schema}")
        if system is not None:
            given.append(f"system={_literal(system)}")
    else:
        parts = [f"{one.name!r}: {_literal(_messages(one))}" for one in spec.prompts]
        schemas = [f"{one.name!r}: {_schema(one.output)}" for one in spec.prompts]
        given = [f"{{{', '.join(parts)}}}", f"schema={{{', '.join(schemas)}}}"]
    syntax = spec.prompts[0].template.syntax
    if any(not _is_guessed(one, syntax) for one in spec.prompts):
        given.append(f"syntax={syntax!r}")
    if spec.num_samples != 1:
        given.append(f"n={spec.num_samples}")
    if spec.missing.action != "refuse":
        given.append(f"missing={spec.missing.to_json()!r}")
    if spec.images.columns:
        given.append(f"images={_images(spec.images)}")
    given += [f"{name}={_literal(value)}" for name, value in spec.sampling.items()]
    return given


def _images(images: ImageColumns) -> str:
    """Return the columns with pictures; with their folders, where Python would take others."""
    columns = list(images.columns)
    if images == ImageColumns.parse(columns):
        return _literal(columns[0] if len(columns) == 1 else columns)
    parts = [_literal(images.columns, 8), f"folder={_plain(images.folder)}"]
    if images.within is not None:
        parts.append(f"within={_literal(images.within, 8)}")
    line = f"ImageColumns({', '.join(parts)})"
    if len(line) <= _WIDTH - len("    images=,") and "\n" not in line:
        return line
    return "ImageColumns(\n" + "".join(f"        {part},\n" for part in parts) + "    )"


def _asked(prompt: Prompt) -> tuple[Any, str | None]:
    """Return a prompt as a person writes it: a text, with a system message where there is one."""
    messages = prompt.template.messages
    if [message["role"] for message in messages] == ["user"]:
        return messages[0]["content"], None
    if [message["role"] for message in messages] == ["system", "user"]:
        return messages[1]["content"], messages[0]["content"]
    return _messages(prompt), None


def _messages(prompt: Prompt) -> Any:
    return [dict(message) for message in prompt.template.messages]


def _is_guessed(prompt: Prompt, syntax: str) -> bool:
    try:
        return Template.parse(_messages(prompt)).syntax == syntax
    except GgufWidgetsError:
        return False


def _schema(output: Output) -> str:
    """Return what `Output.parse` makes the same output of; the plainest that does."""
    told = output.to_dict()
    tries: list[Any] = []
    if output.kind == "text":
        tries = [None]
    elif output.kind == "choice":
        tries = [told["choices"]]
    elif output.kind == "number" and told["step"] == 1:
        tries = [(told["low"], told["high"])]
    elif output.kind == "json":
        tries = [told["schema"]]
    elif output.kind == "boolean":
        tries = [[True, False]]
    for schema in tries:
        try:
            if Output.parse(schema, name=output.name).to_dict() == told:
                return _literal(schema)
        except GgufWidgetsError:
            continue  # the plain form means something else; the long one below does not
    return f"Output.from_dict({_literal(told)})"


def _plain(value: Any) -> str:
    return repr(str(value) if isinstance(value, str) else value)


def _literal(value: Any, indent: int = 4) -> str:
    if isinstance(value, str):
        return _text(value)
    text = pprint.pformat(value, width=_WIDTH - indent, sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent)


def _text(text: str) -> str:
    """Return a text as Python writes it; several lines as several texts."""
    if "\n" not in text or len(text) < 40:
        return repr(text)
    parts = text.splitlines(keepends=True)
    return "(\n" + "".join(f"        {part!r}\n" for part in parts) + "    )"
