"""A notebook that makes a comparison again, and shows it.

Promises: it runs from top to bottom where the same models are (a test carries it out); it asks the
same of the same sides, with the same scores; what was found then stands in it in words, beside what
comes out now. What cannot be put into a notebook (a function whose text is not known) is said in
it. Leaves to others: writing the file (`export`).
"""

from __future__ import annotations

import inspect
import json
import pprint
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.judge import Judge
from gguf_widgets.compare.prompts import PLAIN_TEMPLATE
from gguf_widgets.compare.scorer import column_names
from gguf_widgets.compare.scoring import Own, Scoring
from gguf_widgets.compare.scoring_similarity import Similarity, model_record
from gguf_widgets.compare.sides import SideRecord
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["notebook_of"]

_WIDTH: Final = 88
_MOST_CHARS: Final = 200_000  # of prompts inside the notebook; more are a file beside it


def notebook_of(
    comparison: Comparison, target: Path
) -> tuple[dict[str, Any], tuple[Path, str] | None]:
    """Return the notebook, and the file of prompts beside it where they are many.

    Returns
    -------
    dict
        In the form of a Jupyter notebook, version 4.5.
    (Path, str) or None
        Another file, and what it holds.
    """
    definition = comparison.definition
    prompts, companion = _prompts(comparison, target)
    functions, left_out = _functions(definition.scorings)
    cells = [
        _markdown(_introduction(comparison, left_out)),
        _code("import gguf_widgets as gw"),
        *prompts,
        *([_code(functions)] if functions else []),
        _code(_call(comparison, definition)),
        _markdown("## What came of each side"),
        _code("comparison.summary()"),
        _code("for difference in comparison.differences():\n    print(difference)"),
        _code('comparison.figure("quality")'),
        _markdown("## Prompt by prompt"),
        _code("comparison.to_frame()"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number:02d}"
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
            "title": comparison.title or "A comparison",
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return notebook, companion


def _introduction(comparison: Comparison, left_out: Sequence[str]) -> str:
    made = datetime.fromtimestamp(comparison.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    title = plain_text(comparison.title or "A comparison", 120)
    num = comparison.num_prompts
    lines = [
        f"# {_inert(title)}",
        "",
        (
            "This notebook makes a comparison again: the same sides, the same "
            f"{'prompt' if num == 1 else f'{num:,} prompts'}, the same scores. It was made on "
            f"{made} (id `{comparison.id}`)."
        ),
        "",
        "What was found then:",
        "",
        *(f"- {_inert(str(one))}" for one in comparison.differences() if one.num_pairs),
        *(f"- {_inert(note)}" for note in comparison.notes),
    ]
    for name in left_out:
        lines += [
            "",
            (
                f"The score `{plain_text(name).replace('`', ' ')}` is left out: it was a function "
                "of your own, and its text is not known here. Add it to `scores`."
            ),
        ]
    if not comparison.definition.common.reproducible:
        lines += [
            "",
            (
                "It was not made in strict mode: answers may differ in a few words, since what is "
                "computed side by side changes the last digits. `reproducible=True` avoids that "
                "and is slow."
            ),
        ]
    return "\n".join(lines)


def _inert(text: str) -> str:
    """Return a text so that Markdown takes it for text."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-!<>|~$&" else c for c in text)


def _prompts(
    comparison: Comparison, target: Path
) -> tuple[list[dict[str, Any]], tuple[Path, str] | None]:
    definition = comparison.definition
    names = column_names(definition)
    raw = comparison.raw_prompts()
    rows = [dict(zip(names, json.loads(data), strict=False)) for data, _ in raw]
    references = [reference for _, reference in raw] if definition.has_references else None
    is_plain = not any(isinstance(v, dict) for row in rows for v in row.values())
    # One column that is called "prompt" is what a list of texts becomes.
    value: Any = [row["prompt"] for row in rows] if names == ["prompt"] and is_plain else rows
    told = {"prompts": value, "references": references}
    size = len(json.dumps(told, default=str))
    decode = (
        ""
        if is_plain
        else "\nfrom gguf_widgets.batch.table_rows import decoded\n\nprompts = [\n    {name: "
        "decoded(value) for name, value in row.items()} for row in prompts\n]"
    )
    if size <= _MOST_CHARS:
        text = f"prompts = {_literal(value)}{decode}"
        cells = [_code(text)]
        if references is not None:
            cells.append(_code(f"references = {_literal(references)}"))
        return cells, None
    beside = target.with_name(f"{target.stem}-prompts.json")
    text = (
        "import json\nfrom pathlib import Path\n\n"
        f'told = json.loads(Path({beside.name!r}).read_text("utf-8"))\n'
        f'prompts, references = told["prompts"], told["references"]{decode}'
    )
    return [_code(text)], (beside, json.dumps(told, ensure_ascii=False, default=str))


def _functions(scorings: Sequence[Scoring]) -> tuple[str, list[str]]:
    """Return the texts of a person's own functions, and the names of those without one."""
    texts, missing = [], []
    for one in scorings:
        if isinstance(one, Own):
            source = _source(one)
            if source is None:
                missing.append(one.name)
            else:
                texts.append(source)
    if not texts:
        return "", missing
    # Their annotations may name what is not imported here, and are not needed.
    beginning = "from __future__ import annotations\n\n# Import here what these functions use."
    return "\n\n\n".join([beginning, *texts]), missing


def _source(scoring: Own) -> str | None:
    try:
        text = textwrap.dedent(inspect.getsource(scoring.function))  # type: ignore[arg-type]
    except (OSError, TypeError):
        return None
    return text.rstrip() if text.startswith("def ") else None  # a lambda stands in the middle


def _call(comparison: Comparison, definition: Definition) -> str:
    common = definition.common
    lines = ["comparison = gw.compare(", "    ["]
    lines += [f"        {_side(side)}," for side in definition.sides]
    lines += ["    ],", "    prompts,"]
    if common.template != PLAIN_TEMPLATE:
        lines.append(f"    template={_literal(common.template)},")
    if definition.has_references:
        lines.append("    references=references,")
    scorings = [one for one in definition.scorings if not isinstance(one, Own) or _source(one)]
    lines.append("    scores=[")
    lines += [f"        {_scoring(one)}," for one in scorings]
    lines.append("    ],")
    if common.system is not None:
        lines.append(f"    system={common.system!r},")
    if common.schema is not None:
        told = _literal(common.schema)
        lines.append(f"    schema=gw.compare.Output.from_dict({told}),")
    if common.reproducible:
        lines.append("    reproducible=True,")
    if definition.stop_early is not None:
        lines.append(f"    stop_early={definition.stop_early!r},")
    if definition.order != "auto":
        lines.append(f"    order={definition.order!r},")
    if comparison.title:
        lines.append(f"    title={comparison.title!r},")
    lines += [f"    {name}={_literal(value)}," for name, value in common.sampling.items()]
    lines.append(")")
    return "\n".join(lines)


def _side(side: SideRecord) -> str:
    load = dict(side.load)
    if side.chat_template is not None:
        load["chat_template"] = side.chat_template
    name = side.name if side.name == "demo" or side.path is None else side.path
    parts = [repr(name), f"label={side.label!r}"]
    for key, value in (("load", load), ("sampling", side.sampling)):
        if value:
            parts.append(f"{key}={value!r}")
    if side.system is not None:
        parts.append(f"system={side.system!r}")
    if side.template is not None:
        parts.append(f"template={side.template!r}")
    return f"gw.compare.Side({', '.join(parts)})"


def _scoring(one: Scoring) -> str:
    if isinstance(one, Own):
        name = getattr(one.function, "__name__", one.name)
        parts = [name, f"name={one.name!r}"]
        parts += [f"{key}={value!r}" for key, value in one.options().items()]
        return f"gw.compare.Own({', '.join(parts)})"
    options = one.options()
    parts = []
    if isinstance(one, Judge | Similarity):
        record = model_record(one.model)
        options.pop("model")
        parts.append(
            repr(record["name"] if record["name"] == "demo" else record.get("path", record["name"]))
        )
    # All defaults are None, False, 0 or "", but for those of a judge's sampling.
    told = {key: value for key, value in options.items() if value or isinstance(one, Judge)}
    parts += [f"{key}={value!r}" for key, value in told.items() if value is not None]
    if one.name != one.kind:
        parts.append(f"name={one.name!r}")
    return f"gw.compare.{type(one).__name__}({', '.join(parts)})"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    return pprint.pformat(value, width=_WIDTH, sort_dicts=False).replace("\n", "\n    ")


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
