"""A loaded model as a record has it.

Promises: what can be found out is found out within milliseconds, and nothing of it ever fails a
request; a SHA-256 of the whole file is taken only when it is asked for, and remembered with the
library's others. Leaves to others: finding such a model again (`finding`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gguf_widgets.batch.spec import identity_of
from gguf_widgets.core.library.hashes import Hashes, sha256_of
from gguf_widgets.core.record.model_file import (
    about_companions,
    about_model,
    model_digest,
    template_digest,
)
from gguf_widgets.core.record.tried import tried
from gguf_widgets.experiments.values import ModelRecord

__all__ = ["hashed", "model_record"]


def model_record(model: Any) -> ModelRecord:
    """Return what is known of a loaded model."""
    info, settings = model.info, model.settings
    own = msgspec.structs.replace(info, chat_template=info.chat_template or "")
    companions = tried(about_companions, model) or {}
    is_computed = info.backend != "scripted"
    return ModelRecord(
        path=str(model.path),
        architecture=own.architecture,
        quantization=own.quantization,
        model=tried(model_digest, model),
        sha256=(tried(Hashes().known, Path(info.path)) or None) if is_computed else None,
        header=tried(identity_of, Path(info.path)) if is_computed else None,
        template=tried(template_digest, _WithOwnTemplate(model)),
        lora=companions.get("lora"),
        mmproj=companions.get("mmproj"),
        lora_paths=[path for path, _ in settings.lora],
        mmproj_path=settings.mmproj or None,
        **about_model(model),
    )


def hashed(record: ModelRecord) -> ModelRecord:
    """Return the same with the SHA-256 of the whole file, if that is still the recorded file."""
    path = Path(record.path)
    is_split = record.sha256 is None and _num_files(path) > 1
    if record.sha256 or record.backend == "scripted" or is_split:
        return record
    if tried(identity_of, path) != record.header:
        return record
    return msgspec.structs.replace(record, sha256=tried(lambda: sha256_of(path)))


def _num_files(path: Path) -> int:
    from gguf_widgets.core.gguf_split import split_name

    split = split_name(path)
    return 1 if split is None else split.num_parts


class _WithOwnTemplate:
    """A model as if no other chat template were in use."""

    def __init__(self, model: Any) -> None:
        self.info = model.info
        self.settings = model.settings.replace(chat_template=None)
