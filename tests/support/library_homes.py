"""Fake homes of the programs that keep GGUF files, in the layouts that they really use.

Not a test and no fixture: import it as ``from support.library_homes import Person``.

Where each layout is documented (looked up in November 2026):

- Hugging Face cache: the guide "Understand caching" of ``huggingface_hub``, its ``constants.py``
  and ``file_download.py``: ``models--owner--name/{blobs,refs,snapshots}``, links from snapshots to
  blobs that are relative, blobs of large files named by SHA-256; on Windows without links, files.
- LM Studio: its documentation "Import Models" (``publisher/model/file.gguf``); in
  ``lmstudio-ai/lms``, ``src/modelsFolder.ts`` (``settings.json``, ``downloadsFolder``);
  ``findLMStudioHome`` in ``lmstudio.js`` (``~/.lmstudio-home-pointer``, ``~/.cache/lm-studio``).
- Ollama: ``manifest/paths.go``, ``manifest/manifest.go``, ``envconfig/config.go``:
  ``manifests/host/namespace/model/tag`` in JSON (``manifests-v2`` with the host ``ollama.com``),
  ``blobs/sha256-...``, layers by media type.
- Jan: ``extensions/llamacpp-extension/src/index.ts`` (``llamacpp/models/<id>/model.yml``, paths
  from the data folder), ``src-tauri/src/core/app/commands.rs`` (``settings.json``, the folders).
- GPT4All: "Settings" in its documentation, ``gpt4all-chat/src/mysettings.cpp`` (``modelPath`` in
  an INI file of Qt's).
- KoboldCpp: its wiki, and ``qwen08rpctest.kcpps`` in its repository (a saved start, JSON).
- text-generation-webui: ``modules/paths.py`` and the README (``user_data/models``; ``models`` up
  to 2025).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from support.gguf_writer import F16, Q8_0, Tensor, Typed, gguf_bytes, model_entries

PUBLIC = "registry.ollama.ai"


def model_file(
    name: str = "Small test model", architecture: str = "llama", width: int = 64, **changes: Typed
) -> bytes:
    """Return a small sound model; its width decides which projectors go with it."""
    entries = model_entries(architecture, general__name=Typed("string", name), **changes)
    entries[f"{architecture}.embedding_length"] = Typed("uint32", width)
    tensors = (
        Tensor("token_embd.weight", (width, 4)),
        Tensor("output_norm.weight", (width,)),
        Tensor("blk.0.attn_q.weight", (width, 64), Q8_0, width * 2 * 34),
    )
    return gguf_bytes(entries.items(), tensors)


def projector_file(
    width: int = 64,
    kind: str = "mlp",
    name: str = "",
    *,
    said: bool = True,
    vision: bool = True,
    audio: bool = False,
    type_id: int = F16,
) -> bytes:
    """Return a projector as llama.cpp's converter writes it; `said`: it says its true width."""
    entries = {
        "general.architecture": Typed("string", "clip"),
        "general.type": Typed("string", "mmproj"),
        "clip.has_vision_encoder": Typed("bool", vision),
        "clip.has_audio_encoder": Typed("bool", audio),
        "clip.projector_type": Typed("string", kind),
        "clip.vision.projection_dim": Typed("uint32", width if said else 768),
    }
    if name:
        entries["general.name"] = Typed("string", name)
    size = {F16: 2, Q8_0: 1}.get(type_id, 4) * 32 * width
    return gguf_bytes(
        entries.items(), (Tensor("mm.0.weight", (32, width), type_id, size * 34 // 32),)
    )


def part_file(number: int, count: int, name: str = "Big") -> bytes:
    """Return one part of a split model, from 1."""
    about = {
        "split.no": Typed("uint16", number - 1),
        "split.count": Typed("uint16", count),
        "split.tensors.count": Typed("int32", count),
    }
    entries = model_entries(general__name=Typed("string", name))
    return gguf_bytes({**entries, **about}.items(), (Tensor(f"t{number}"),))


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hub:
    """A Hugging Face cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repository(self, repo: str) -> Path:
        return self.folder / f"models--{repo.replace('/', '--')}"

    def add(
        self, repo: str, file: str, data: bytes, commit: str = "a" * 40, *, linked: bool = True
    ) -> Path:
        """Add a file as a download does; return its path in the snapshot."""
        root = self.repository(repo)
        path = root / "snapshots" / commit / file
        if not linked:
            return put(path, data)
        blob = put(root / "blobs" / sha256(data), data)
        path.parent.mkdir(parents=True, exist_ok=True)
        up = Path(*[".."] * (len(Path(file).parts) + 1))
        path.symlink_to(up / "blobs" / blob.name)
        return path

    def ref(self, repo: str, commit: str, name: str = "main") -> None:
        put(self.repository(repo) / "refs" / name, commit)


class Ollama:
    """A models folder of Ollama's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blob(self, data: bytes) -> str:
        """Add a blob; return its digest."""
        put(self.folder / "blobs" / f"sha256-{sha256(data)}", data)
        return f"sha256:{sha256(data)}"

    def path(self, data: bytes) -> Path:
        return self.folder / "blobs" / f"sha256-{sha256(data)}"

    def layer(self, kind: str, data: bytes) -> dict[str, Any]:
        media = f"application/vnd.ollama.image.{kind}"
        return {"mediaType": media, "digest": self.blob(data), "size": len(data)}

    def manifest(self, *layers: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": self.layer("config", b"{}"),
            "layers": list(layers),
            **more,
        }

    def write(
        self,
        name: str,
        content: object,
        *,
        host: str = PUBLIC,
        namespace: str = "library",
        kind: str = "manifests",
    ) -> Path:
        """Write what is at a name and tag ("qwen3:4b")."""
        text = content if isinstance(content, str) else json.dumps(content)
        return put(self.folder.joinpath(kind, host, namespace, *name.split(":")), text)

    def add(self, name: str, data: bytes, *more: dict[str, Any], **where: str) -> Path:
        """Add a model as ``ollama pull`` does; return its blob."""
        layers = [self.layer("model", data), self.layer("template", b"{{ .Prompt }}"), *more]
        self.write(name, self.manifest(*layers), **where)
        return self.path(data)


def jan_yml(model_path: str, **more: str) -> str:
    """Return a description as Jan writes it."""
    lines = [f"model_path: {model_path}", *(f"{key}: {value}" for key, value in more.items())]
    return "\n".join([*lines, "size_bytes: 4967", "embedding: false", ""])


def kcpps(model: str, **more: Any) -> str:
    """Return a saved start of KoboldCpp."""
    start = {"model": [model], "model_param": model, "port": 5001, "threads": 7, "mmproj": None}
    return json.dumps({**start, "embeddingsmodel": "", "downloaddir": "", **more})
