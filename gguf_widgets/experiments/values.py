"""What an experiment's record holds, as plain values.

Promises: immutable values made of JSON's own types; a field that is not known here is refused by
its name, so that nothing of a record is passed over in silence. Leaves to others: making them
(`recorder`, `run_items`), files (`document`), doing it again (`replay`).

A record says with which program and on what machine (`Record.program`), which models
(`Record.models`), and then item by item what was asked and what came of it. An item names its
models by their place in that list.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Answer",
    "ComparisonItem",
    "Item",
    "ModelRecord",
    "Record",
    "RequestItem",
    "RunItem",
    "Status",
]

Status = Literal["done", "failed", "skipped", "waiting"]


class _Plain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is here."""


class Answer(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of one request, or of one task of a batch run.

    Attributes
    ----------
    number : int
        Of a batch run: the task's, which tells row, prompt, model and sample.
    status : {"done", "failed", "skipped", "waiting"}
    text : str or None
        As the model wrote it.
    tokens : list of int or None
        What was generated; None where that is not known (a row that another process asked).
    prompt_tokens : list of int or None
        Exactly what the model read.
    finish_reason : str or None
    seed : int or None
    num_prompt_tokens, num_cached_tokens, num_completion_tokens : int or None
    values : dict or None
        What a batch run has read from the text, by column.
    error : dict or None
        Kind, message and details of the error.
    """

    number: int = 0
    status: Status = "done"
    text: str | None = None
    tokens: list[int] | None = None
    prompt_tokens: list[int] | None = None
    finish_reason: str | None = None
    seed: int | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_completion_tokens: int | None = None
    values: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class RequestItem(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="request"):
    """A completion, or one answer of a chat.

    Attributes
    ----------
    model : int
    at : float
        When it was asked: seconds since 1970, UTC.
    prompt : dict
        As it went to the model: messages, text or tokens; see `worker.prompt.Prompt`.
    sampling : dict
        Every setting, the standard ones too, with the seed that was used.
    priority : str
    strict : bool
        Whether it was computed by itself (``reproducible=True``).
    template : str or None
        A digest of the chat template in use.
    answer : Answer
    """

    model: int
    at: float
    prompt: dict[str, Any]
    sampling: dict[str, Any]
    priority: str = "interactive"
    strict: bool = False
    template: str | None = None
    answer: Answer


class RunItem(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="run"):
    """A batch run.

    Attributes
    ----------
    run_id : str
    title : str
    at : float
    models : list of int
        In the order of the run's own.
    templates : list of str or None
        A digest of the chat template in use, for each of them.
    spec : dict
        What was asked; see `batch.spec.Spec`.
    sampling : dict
        Every setting, the standard ones too; a row's seed is its answer's.
    columns : list of dict
        The table's; see `batch.table_rows`.
    rows : list of list
        The table.
    strict : bool
    status : str
        Where the run stood when it was recorded: "finished", or it was not to its end.
    answers : list of Answer
        One for each row (of each prompt, model and sample), by number.
    """

    run_id: str
    title: str
    at: float
    models: list[int]
    templates: list[str | None]
    spec: dict[str, Any]
    sampling: dict[str, Any]
    columns: list[dict[str, Any]]
    rows: list[list[Any]]
    strict: bool = False
    status: str = "finished"
    answers: list[Answer] = []


class ComparisonItem(
    _Plain, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="comparison"
):
    """A comparison: its answers are batch runs, which are recorded as such.

    Attributes
    ----------
    comparison_id, title : str
    at : float
    runs : list of str
        The runs of its sides.
    data : dict
        Its sides, settings, scores and votes as it tells them itself (`Comparison.to_dict`).
    """

    comparison_id: str
    title: str
    at: float
    runs: list[str] = []
    data: dict[str, Any] = {}


Item = RequestItem | RunItem | ComparisonItem


class ModelRecord(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as it was loaded.

    Attributes
    ----------
    name, path : str
        What the library called it; where its file was.
    architecture, quantization, backend : str
    size_bytes : int
    model : str or None
        A digest of the file: its first megabyte, its last block, a thousand between.
    sha256 : str or None
        Of the whole file; of a split one it is None.
    header : str or None
        The file's size and a digest of its header.
    template : str or None
        A digest of its own chat template.
    load : dict
        The effective settings of loading.
    lora : list of dict or None
        The adapters: name, scale, digest.
    mmproj : str or None
        A digest of the image companion.
    lora_paths, mmproj_path
        Where these files were.
    """

    name: str
    path: str
    architecture: str = ""
    quantization: str = ""
    backend: str = "llama.cpp"
    size_bytes: int = 0
    model: str | None = None
    sha256: str | None = None
    header: str | None = None
    template: str | None = None
    load: dict[str, Any] = {}
    lora: list[dict[str, Any]] | None = None
    mmproj: str | None = None
    lora_paths: list[str] = []
    mmproj_path: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return it by the names that `core.record.differences` compares."""
        return dict(msgspec.structs.asdict(self))


class Record(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole experiment.

    Attributes
    ----------
    id : str
        32 hexadecimal digits.
    title, notes : str
        A person's own words.
    created_at : float
        Seconds since 1970, UTC.
    program : dict
        Versions, the engine's build, the processor, the cards; see `core.record.program`.
    models : list of ModelRecord
    items : list of Item
    """

    id: str
    title: str = ""
    notes: str = ""
    created_at: float = 0.0
    program: dict[str, Any] = {}
    models: list[ModelRecord] = []
    items: list[Item] = []
