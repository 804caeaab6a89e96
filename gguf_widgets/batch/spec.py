"""What a batch run is asked to do, as plain values: prompts, outputs, settings, models.

Promises: everything is checked before a run begins, in words; what `to_dict` returns is plain JSON
and enough to carry the run out again in another process. Leaves to others: rows (`table_rows`),
templates (`template`), outputs (`output`).
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from gguf_widgets.batch.images import NO_IMAGES, ImageColumns
from gguf_widgets.batch.missing import REFUSE, MissingRule
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.library.cache import HEADERS
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import current_names
from gguf_widgets.core.types import LoadSettings, SamplingSettings

__all__ = ["MAX_SAMPLES", "ModelRef", "Prompt", "Spec"]

MAX_SAMPLES: Final = 256
_VERSION: Final = 1
# What an output says, and what a run decides for each row.
_NOT_SAMPLING: Final = {
    "schema": "Give it as schema= of the run.",
    "grammar": "A run's replies follow its schema=; for a grammar of your own call the model.",
    "priority": "Rows of a table always let chats go first.",
}


@dataclasses.dataclass(frozen=True)
class ModelRef:
    """A model as a run knows it, so that another process can load it again.

    Attributes
    ----------
    name : str
        What the library calls it.
    path : str
    identity : str
        The same for the same file, wherever it lies: its size and a digest of its header.
    settings : dict
        `LoadSettings` by name, those that matter.
    chat_template : str or None
        The one used in place of the model's own.
    backend : str
        What runs it: prepared sentences of demo mode and a model's replies are never in one run.
        "" in runs of before this was kept.
    """

    name: str
    path: str
    identity: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    chat_template: str | None = None
    backend: str = ""

    def answering(self, *, with_images: bool) -> tuple[str, str | None, LoadSettings]:
        """Return what its answers depend on."""
        names = ("lora", "mmproj") if with_images else ("lora",)
        told = {name: self.settings[name] for name in names if name in self.settings}
        return self.identity, self.chat_template, LoadSettings.from_keywords(**told)

    @classmethod
    def of(cls, model: Model) -> Self:
        """Describe a model that is loaded."""
        plain = LoadSettings().to_dict()
        settings = model.settings.to_dict()
        template = settings.pop("chat_template", None)
        kept = {name: value for name, value in settings.items() if value != plain.get(name)}
        identity = identity_of(model.path)
        return cls(model.name, str(model.path), identity, kept, template, model.info.backend)


def identity_of(path: Path) -> str:
    """Return what is the same for the same model file, without reading its weights."""
    (facts,) = HEADERS.read_all([path], keep=False)
    size = facts.info.size_bytes if facts.info is not None else path.stat().st_size
    return f"{size}-{facts.fingerprint}"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One question to each row.

    Attributes
    ----------
    template : Template
    output : Output
    name : str
        Tells the prompts of a run apart, and their columns; "" where there is one.
    """

    template: Template
    output: Output
    name: str = ""

    def column(self, name: str) -> str:
        """Return what a column of the output is called in the result."""
        if not self.name or name == self.name:
            return name
        return self.name if self.output.kind != "json" else f"{self.name}.{name}"


@dataclasses.dataclass(frozen=True)
class Spec:
    """A run's task.

    Attributes
    ----------
    prompts : tuple of Prompt
    models : tuple of ModelRef
    sampling : dict
        Keywords of `SamplingSettings`; what is left out is theirs, but for the temperature, which
        is 0 here: a table is filled in the same way each time.
    missing : MissingRule
    num_samples : int
        How often each question is asked.
    seed : int
        What the seeds of the tasks are made from, where none is given.
    images : ImageColumns
        The columns that hold images.
    requests : bool
        Each row is a request with messages and settings of its own (`requests`); the prompt only
        shows it.
    """

    prompts: tuple[Prompt, ...]
    models: tuple[ModelRef, ...]
    sampling: dict[str, Any]
    missing: MissingRule = REFUSE
    num_samples: int = 1
    seed: int = dataclasses.field(default_factory=lambda: secrets.randbits(32))
    requests: bool = False
    images: ImageColumns = NO_IMAGES

    @classmethod
    def make(
        cls,
        prompt: Any,
        models: Sequence[Model],
        *,
        schema: Any = None,
        system: str | None = None,
        missing: Any = "refuse",
        n: int = 1,
        syntax: str = "auto",
        sampling: Mapping[str, Any] | None = None,
        images: ImageColumns = NO_IMAGES,
    ) -> Self:
        """Take what a person gives to a run; see `BatchProcessor.start`.

        Raises
        ------
        InvalidValueError
        """
        if not models:
            raise InvalidValueError("There is no model to ask. Give one, such as load('demo').")
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_SAMPLES:
            raise InvalidValueError(
                f"n is {n!r}; it must be a whole number from 1 to {MAX_SAMPLES}.", value=repr(n)
            )
        settings = {"temperature": 0.0, **(sampling or {})}
        for name, reason in _NOT_SAMPLING.items():
            if name in settings:
                raise InvalidValueError(f"{name}= cannot be set here. {reason}", name=name)
        SamplingSettings.from_keywords(**settings)  # refuses what is wrong, before a row is asked
        return cls(
            prompts=_prompts(prompt, schema, system, syntax),
            models=tuple(ModelRef.of(model) for model in models),
            sampling=settings,
            missing=MissingRule.parse(missing),
            num_samples=n,
            images=images,
        )

    def columns_used(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of a table's columns that the prompts use."""
        used = [name for one in self.prompts for name in one.template.columns_used(columns)]
        return tuple(dict.fromkeys([*used, *self.images.columns]))

    def may_ask(self, other: ModelRef) -> bool:
        """Say whether answers of another may stand beside those of the run's first model."""
        with_images = bool(self.images.columns) or self.requests
        own = self.models[0]
        return own.backend in ("", other.backend) and own.answering(
            with_images=with_images
        ) == other.answering(with_images=with_images)

    def with_model(self, model: Model) -> Self:
        """Return the same with its model as it is loaded here.

        Raises
        ------
        BatchError
            It has several models, or its own is another file or has another chat template, other
            adapters, or another projector.
        """
        other = ModelRef.of(model)
        if len(self.models) > 1 or not self.may_ask(other):
            raise BatchError(
                f"This run asks {', '.join(one.name for one in self.models)}. It can go on with "
                "the same model file, chat template, adapters (lora) and projector (mmproj) only, "
                "and with one model. Make a new run to ask another.",
                problem="other_model",
            )
        return dataclasses.replace(self, models=(other,))

    def check(self, columns: Sequence[str]) -> None:
        """Raise `InvalidValueError` if a prompt uses a column that the table does not have."""
        self.images.check(columns)
        for prompt in self.prompts:
            prompt.template.check(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "version": _VERSION,
            "prompts": [
                {
                    "name": prompt.name,
                    "template": prompt.template.to_dict(),
                    "output": prompt.output.to_dict(),
                }
                for prompt in self.prompts
            ],
            "models": [dataclasses.asdict(model) for model in self.models],
            "sampling": dict(self.sampling),
            "missing": self.missing.to_json(),
            "num_samples": self.num_samples,
            "seed": self.seed,
            "requests": self.requests,
            **({"images": self.images.to_dict()} if self.images.columns else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` made.

        Raises
        ------
        InvalidValueError
            It is not that, or from a newer version of this program.
        """
        if data.get("version") != _VERSION:
            raise InvalidValueError(
                "This batch run was made by another version of gguf-widgets "
                f"({data.get('version')!r}; this one knows {_VERSION}). Update gguf-widgets."
            )
        try:
            return cls(
                prompts=tuple(
                    Prompt(
                        Template.from_dict(one["template"]),
                        Output.from_dict(one["output"]),
                        one["name"],
                    )
                    for one in data["prompts"]
                ),
                models=tuple(ModelRef(**one) for one in data["models"]),
                sampling=current_names(data["sampling"]),
                missing=MissingRule.parse(data["missing"]),
                num_samples=data["num_samples"],
                seed=data["seed"],
                requests=data.get("requests", False),
                images=ImageColumns.from_dict(data["images"]) if "images" in data else NO_IMAGES,
            )
        except (KeyError, TypeError) as error:
            raise InvalidValueError(
                f"The description of this batch run cannot be read: {error!r}."
            ) from error


def _prompts(prompt: Any, schema: Any, system: str | None, syntax: str) -> tuple[Prompt, ...]:
    if not isinstance(prompt, Mapping) or {"role", "content"} <= set(prompt):
        return (_prompt(prompt, schema, system, syntax, ""),)
    if not prompt:
        raise InvalidValueError("There is no prompt. Give a text such as 'Translate: {text}'.")
    schemas = schema if isinstance(schema, Mapping) and set(schema) <= set(prompt) else None
    made = []
    for name, one in prompt.items():
        if not isinstance(name, str) or not name:
            raise InvalidValueError(f"A prompt's name is a text, not {name!r:.80}.")
        own = schemas.get(name) if schemas is not None else schema
        made.append(_prompt(one, own, system, syntax, name))
    return tuple(made)


def _prompt(source: Any, schema: Any, system: str | None, syntax: str, name: str) -> Prompt:
    if system is not None:
        turns = [{"role": "user", "content": source}] if isinstance(source, str) else list(source)
        source = [{"role": "system", "content": system}, *turns]
    template = Template.parse(source, syntax=syntax)
    return Prompt(template, Output.parse(schema, name=name or "reply"), name)
