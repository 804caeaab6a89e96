"""Which model computed something: its file, its template, and how it was loaded.

Promises: no file is read whole, and what is known of a file is kept while the file stays the same;
a digest of a file is that of a sample of its blocks (`state_identity.ModelFiles`: the first
megabyte, the last block and a thousand between). Leaves to others: what it was asked
(`core.chat.record`, `gguf_widgets.experiments`), a SHA-256 of a whole file (`library.hashes`).
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.state_identity import ModelFiles

__all__ = [
    "NUMBERS",
    "about_companions",
    "about_model",
    "digest_of_file",
    "model_digest",
    "template_digest",
]

NUMBERS: Final = (
    "n_ctx",
    "n_batch",
    "n_ubatch",
    "n_seq_max",
    "n_threads",
    "n_gpu_layers",
    "type_k",
    "type_v",
    "flash_attn",
    "kv_unified",
    "n_draft",
)
"""The settings of loading that change numbers, if only their last digits."""


def about_model(model: Any) -> dict[str, Any]:
    """Return what is known of a loaded model at once.

    Returns
    -------
    dict
        ``backend``, ``name``, ``size_bytes``, and ``load``: the effective settings of `NUMBERS`.
    """
    info, settings = model.info, model.settings
    return {
        "backend": info.backend,
        "name": model.name,
        "size_bytes": info.size_bytes,
        "load": {name: getattr(settings, name) for name in NUMBERS},
    }


def template_digest(model: Any, chat_template: str | None = None) -> str:
    """Return a digest of the chat template in use; `chat_template` replaces the model's own."""
    source = chat_template or model.settings.chat_template or model.info.chat_template or ""
    return hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=16).hexdigest()


def model_digest(model: Any) -> str | None:
    """Return a digest of the model's file; None in demo mode, where no file is computed with."""
    if model.info.backend == "scripted":
        return None
    return digest_of_file(model.info.path)


def about_companions(model: Any) -> dict[str, Any]:
    """Return ``lora`` and ``mmproj``: digests of the adapters with scales, and of the companion."""
    settings = model.settings
    return {
        "lora": [
            {"name": Path(path).name, "scale": scale, "digest": digest_of_file(path)}
            for path, scale in settings.lora
        ],
        "mmproj": digest_of_file(settings.mmproj) if settings.mmproj else None,
    }


def digest_of_file(path: str) -> str | None:
    """Return a digest of a model's file, or of the parts of a split one."""
    status = os.stat(path)  # noqa: PTH116 - the path may be any text of the system's
    return _digest_of_file(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest_of_file(path: str, *_status: int) -> str | None:
    return ModelFiles(path, "").digest()
