"""The sides of a comparison: what a person names, and what is kept of it.

Promises: two to four sides, each with a label of its own that says how it differs; every setting is
checked before a model is loaded; what `SideRecord.to_dict` returns is plain JSON and enough to load
the side again in another process. Leaves to others: loading (`memory`), asking (`carrying`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt
from gguf_widgets.batch.template import Template
from gguf_widgets.compare.types import SideState, SideStatus
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import LoadSettings, SamplingSettings

__all__ = ["MAX_SIDES", "MIN_SIDES", "Common", "Side", "SideRecord", "sides_of"]

MIN_SIDES: Final = 2
MAX_SIDES: Final = 4
_MAX_LABEL: Final = 60
_NOT_SAMPLING: Final = {
    "schema": "Give it as schema= of the comparison.",
    "grammar": "Give schema= of the comparison.",
    "priority": "A comparison always lets chats go first.",
}


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    model : Model, str or path-like
        A loaded model, a name from `gguf_widgets.models()`, or a file.
    label : str, optional
        What it is called; default: the model's name and what tells it from the other sides.
    load : mapping, optional
        Settings to load it with: ``{"n_ctx": 4096, "type_k": "q8_0"}``; not for a loaded model.
    sampling : mapping, optional
        Of this side alone: ``{"temperature": 0.8}``.
    system : str, optional
        In place of the comparison's.
    template : str or list of messages, optional
        In place of the comparison's: to compare prompts.

    Examples
    --------
    >>> Side("demo", sampling={"temperature": 0.8}).model
    'demo'
    """

    model: Model | str | os.PathLike[str]
    label: str | None = None
    load: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    system: str | None = None
    template: Any = None


@dataclasses.dataclass(frozen=True)
class Common:
    """What holds for every side that does not say otherwise.

    Attributes
    ----------
    template : str or list of messages
    system : str or None
    schema : dict or None
        What `Output.to_dict` returns; None is free text.
    sampling : dict
        Without the temperature's default; see `sampling_of`.
    reproducible : bool
    """

    template: Any
    system: str | None
    schema: dict[str, Any] | None
    sampling: dict[str, Any]
    reproducible: bool

    @property
    def output(self) -> Output:
        """What replies are turned into."""
        return Output.parse(None) if self.schema is None else Output.from_dict(self.schema)


@dataclasses.dataclass
class SideRecord:
    """What is kept of a side.

    Attributes
    ----------
    label : str
    name : str
        The model's, or the name it was asked for by.
    path : str or None
        The model's file; None until a name was looked up.
    identity : str or None
        As `ModelRef.identity`: a side goes on with the very file that it began with.
    load : dict
        `LoadSettings` that were asked for.
    chat_template, backend : str or None
        Of a model that was given loaded.
    sampling, system, template
        As given for this side.
    run_id : str or None
    error : str or None
        Why it cannot answer.
    busy_s : float
    num_tokens : int
        Written in that time.
    memory_bytes, file_bytes : int or None
    quantization : str
    """

    label: str
    name: str
    path: str | None = None
    identity: str | None = None
    load: dict[str, Any] = dataclasses.field(default_factory=dict)
    chat_template: str | None = None
    backend: str | None = None
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    system: str | None = None
    template: Any = None
    run_id: str | None = None
    error: str | None = None
    busy_s: float = 0.0
    num_tokens: int = 0
    memory_bytes: int | None = None
    file_bytes: int | None = None
    quantization: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SideRecord:
        """Read what `to_dict` made; fields that a later version added are left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{name: value for name, value in data.items() if name in known})
        except TypeError as error:
            raise InvalidValueError(
                f"A side of this comparison cannot be read: {error}.", problem="unreadable"
            ) from error

    def prompt(self, common: Common) -> Prompt:
        """Return what this side is asked."""
        source = self.template if self.template is not None else common.template
        system = self.system if self.system is not None else common.system
        if system is not None:
            turns = [{"role": "user", "content": source}] if isinstance(source, str) else source
            source = [{"role": "system", "content": system}, *turns]
        return Prompt(Template.parse(source), common.output)

    def sampling_of(self, common: Common) -> dict[str, Any]:
        """Return the sampling keywords of this side; the temperature is 0 unless told."""
        strict = {"reproducible": True} if common.reproducible else {}
        return {"temperature": 0.0, **common.sampling, **self.sampling, **strict}

    def note_model(self, model: Model) -> None:
        """Keep which file it turned out to be."""
        reference = ModelRef.of(model)
        self.name, self.path, self.identity = reference.name, reference.path, reference.identity
        self.backend = reference.backend
        self.file_bytes, self.quantization = model.info.size_bytes, model.info.quantization

    def state(self, number: int, status: SideStatus) -> SideState:
        """Return it as plain values; its counts are for others to fill in."""
        own = {
            "load": self.load,
            "sampling": self.sampling,
            "system": self.system,
            "template": self.template,
        }
        speed = self.num_tokens / self.busy_s if self.busy_s > 0 and self.num_tokens else None
        return SideState(
            number=number,
            label=self.label,
            model=self.name,
            path=self.path,
            status=status,
            error=self.error,
            run_id=self.run_id,
            tok_per_s=speed,
            busy_s=self.busy_s,
            memory_bytes=self.memory_bytes,
            file_bytes=self.file_bytes,
            quantization=self.quantization,
            settings={name: value for name, value in own.items() if value},
        )


def sides_of(given: Any, common: Common) -> tuple[list[SideRecord], dict[int, Model]]:
    """Return the sides that a person names, and those of their models that are loaded.

    Raises
    ------
    InvalidValueError
        There are too few or too many; one is no model; a setting cannot be; a label is there twice.
    """
    if isinstance(given, str | os.PathLike | Model | Side) or not isinstance(given, Sequence):
        raise InvalidValueError(
            f"The sides are a list of {MIN_SIDES} to {MAX_SIDES} models, such as "
            f"['a.gguf', 'b.gguf'], not a {type(given).__name__}."
        )
    if not MIN_SIDES <= len(given) <= MAX_SIDES:
        raise InvalidValueError(
            f"A comparison has {MIN_SIDES} to {MAX_SIDES} sides, and {len(given)} "
            f"{'was' if len(given) == 1 else 'were'} given.",
            num_sides=len(given),
            limit=MAX_SIDES,
        )
    sides = [one if isinstance(one, Side) else Side(one) for one in given]
    records, loaded = [], {}
    for number, side in enumerate(sides):
        record = _record(side, number)
        if isinstance(side.model, Model):
            loaded[number] = side.model
        _check(record, common, number)
        records.append(record)
    _label(records, [side.label for side in sides])
    return records, loaded


def _record(side: Side, number: int) -> SideRecord:
    which = f"Side {number + 1}"
    for name in ("load", "sampling"):
        if not isinstance(getattr(side, name), Mapping):
            raise InvalidValueError(f"{which}: {name}= is a dict of settings.")
    own = {
        "label": side.label or "",
        "sampling": dict(side.sampling),
        "system": side.system,
        "template": _plain_template(side.template),
    }
    model = side.model
    if isinstance(model, Model):
        if side.load:
            raise InvalidValueError(
                f'{which}: "{model.name}" is loaded already, so load= cannot change it. Give its '
                "name or its file instead."
            )
        reference = ModelRef.of(model)
        return SideRecord(
            **own,
            name=reference.name,
            path=reference.path,
            identity=reference.identity,
            load=dict(reference.settings),
            chat_template=reference.chat_template,
            backend=reference.backend,
            file_bytes=model.info.size_bytes,
            quantization=model.info.quantization,
        )
    if isinstance(model, os.PathLike):
        path = Path(model)
        return SideRecord(**own, name=path.stem, path=str(path), load=dict(side.load))
    if isinstance(model, str) and model.strip():
        return SideRecord(**own, name=model, load=dict(side.load))
    raise InvalidValueError(
        f"{which} is a {type(model).__name__}; it must be a loaded model, a model's name, or the "
        "path of its file."
    )


def _plain_template(source: Any) -> Any:
    """Return a template as JSON's own types."""
    if source is None or isinstance(source, str):
        return source
    if isinstance(source, Template):
        return [dict(message) for message in source.messages]
    try:
        return [dict(message) for message in source]
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"A template is a text or a list of messages, not {source!r:.80}."
        ) from error


def _check(record: SideRecord, common: Common, number: int) -> None:
    try:
        LoadSettings.from_keywords(**record.load)
        settings = record.sampling_of(common)
        for name, reason in _NOT_SAMPLING.items():
            if name in settings:
                raise InvalidValueError(f"{name}= cannot be set here. {reason}", name=name)
        SamplingSettings.from_keywords(**settings)
        record.prompt(common)
        if record.system is not None and not isinstance(record.system, str):
            raise InvalidValueError(f"system= is a text, not a {type(record.system).__name__}.")
    except GgufWidgetsError as error:
        raise InvalidValueError(f"Side {number + 1}: {error.message}", **error.details) from error


def _label(records: list[SideRecord], given: Sequence[str | None]) -> None:
    """Give each side a label; those that a person gave stay as they are."""
    told = [plain_text(str(one), _MAX_LABEL).strip() for one in given if one]
    twice = next((one for one in told if told.count(one) > 1 or not one), None)
    if twice is not None:
        raise InvalidValueError(f'Two sides are called "{twice}". Give each its own label.')
    names = [plain_text(one.name, _MAX_LABEL) for one in records]
    taken: set[str] = set(told)
    for number, record in enumerate(records):
        own = given[number]
        if own:
            record.label = plain_text(str(own), _MAX_LABEL).strip()
            continue
        name = names[number]
        if names.count(name) > 1:
            name = _told_apart(name, record, [r for r in records if r is not record])
        label, count = name, 1
        while label in taken:
            count += 1
            label = f"{name} ({count})"
        taken.add(label)
        record.label = label


def _told_apart(name: str, record: SideRecord, others: Sequence[SideRecord]) -> str:
    """Add to a name what tells this side from the others of the same name."""
    parts = []
    for own, theirs in (
        (record.load, [one.load for one in others]),
        (record.sampling, [one.sampling for one in others]),
    ):
        parts += [
            f"{key} {value}"
            for key, value in own.items()
            if any(one.get(key) != value for one in theirs)
        ]
    if record.system and any(one.system != record.system for one in others):
        parts.append(f"system “{plain_text(record.system, 20)}”")
    if record.template and any(one.template != record.template for one in others):
        text = record.template
        text = text if isinstance(text, str) else str(text[-1].get("content", ""))
        parts.append(f"“{plain_text(text, 24)}”")
    return plain_text(", ".join([name, *parts]), _MAX_LABEL)
