"""The models of Ollama, by the names and tags that it shows.

Promises: each name and tag with the file behind it, its SHA-256, and the projector that belongs to
it; a manifest that cannot be used, or points at nothing, is listed with the reason. Adapters are
not listed: they are no models. Leaves to others: whether llama.cpp knows what is inside (Ollama has
formats of its own).

The layout, as in Ollama's ``manifest/paths.go`` and ``manifest/manifest.go``::

    <models>/manifests/registry.ollama.ai/library/qwen3/4b   JSON, for "qwen3:4b"
    <models>/manifests-v2/ollama.com/library/qwen3/4b        the same (newer), or a link to a blob
    <models>/blobs/sha256-<64 hexadecimal digits>            the layers that a manifest names

A newer manifest may be a list of others, one for each program that can run the model. The models
folder is ``OLLAMA_MODELS``, else ``.ollama/models`` in the home folder (``envconfig/config.go``);
on Linux, Ollama as a service has a home of its own, ``/usr/share/ollama`` (its install script), and
some distributions use ``/var/lib/ollama``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.errors import UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.items import File, Source
from gguf_widgets.core.library.places import UserDirs
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_json

__all__ = ["OLLAMA"]

_MANIFEST_BYTES: Final = 1_000_000  # real ones have about a thousand
_MAX_LAYERS: Final = 1000
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_LAYER: Final = "application/vnd.ollama.image."
_LIST: Final = "application/vnd.ollama.manifest.list.v2+json"
_PUBLIC: Final = ("registry.ollama.ai", "ollama.com")
# Of a list, what we can run best: llama.cpp is what we are ourselves.
_RUNNERS: Final = ("llamacpp", "ollama", "ggml", "")
_SERVICE_FOLDERS: Final = (
    "/usr/share/ollama/.ollama/models",
    "/var/lib/ollama/.ollama/models",
    "/var/lib/ollama/models",
    "/var/snap/ollama/common/models",
)


def _find(dirs: UserDirs, budget: Budget) -> Iterator[File]:
    moved = dirs.variable("OLLAMA_MODELS")
    folders = [moved] if moved is not None else []
    folders.append(dirs.home / ".ollama" / "models")
    if dirs.system == "linux":
        folders += [Path(folder) for folder in _SERVICE_FOLDERS]
    for models in dict.fromkeys(folders):
        try:
            budget.children(models)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            advice = " You may have to be in the group ollama." if dirs.system == "linux" else ""
            yield _trouble(models, "", f"cannot be looked into: {error.strerror or error}.{advice}")
            continue
        names: set[str] = set()
        for kind in ("manifests-v2", "manifests"):  # where both have a name, the newer one counts
            yield from _manifests(models, models / kind, names, budget)


def _manifests(models: Path, root: Path, names: set[str], budget: Budget) -> Iterator[File]:
    """Yield what the manifests of one folder name: host/namespace/model/tag below it."""
    level: list[Path] = [root]
    for depth in range(4):
        below: list[Path] = []
        for folder in level:
            try:
                children = budget.children(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                yield _trouble(folder, "", f"cannot be looked into: {error.strerror or error}")
                continue
            below += [path for path, is_folder in children if is_folder == (depth < 3)]
        level = below
    named = [(_name(path.relative_to(root).parts), path) for path in level]
    # What two names share is listed under the first: "m:1" before "emma/m:1".
    for name, path in sorted(named, key=lambda pair: (pair[0].count("/"), pair[0])):
        if name not in names:
            names.add(name)
            yield from _in_manifest(models, path, name)


def _name(parts: tuple[str, ...]) -> str:
    """Return a model's name as Ollama shows it: without the parts that go without saying."""
    host, namespace, model, tag = parts
    name = f"{model}:{tag}"
    if host.lower() not in _PUBLIC:
        return f"{host.replace('%3A', ':')}/{namespace}/{name}"
    return name if namespace.lower() == "library" else f"{namespace}/{name}"


def _in_manifest(models: Path, path: Path, name: str) -> Iterator[File]:
    blobs = models / "blobs"
    try:
        manifest = _chosen(read_json(path, _MANIFEST_BYTES), blobs)
        layers = manifest.get("layers", [])
        if not isinstance(layers, list) or len(layers) > _MAX_LAYERS:
            raise OSError("its layers are no list of a sensible length")  # noqa: TRY301
        files = [_blob(layer, blobs) for layer in layers if _kind(layer) == "model"]
        projectors = [_blob(layer, blobs) for layer in layers if _kind(layer) == "projector"]
    except OSError as error:
        yield _trouble(path, name, f"cannot be used: {error.strerror or error}")
        return
    companions = tuple(projector for projector, _ in projectors)
    for file, digest in files:
        yield File(file, label=name, sha256=digest, companions=companions)
    for file, digest in projectors if files else ():
        yield File(file, label=f"{name} (mmproj)", sha256=digest)


def _chosen(manifest: dict[str, Any], blobs: Path) -> dict[str, Any]:
    """Return the manifest itself, or of a list the one that suits us best; {} if none does."""
    if manifest.get("mediaType") != _LIST:
        return manifest
    children = manifest.get("manifests")
    if not isinstance(children, list) or len(children) > _MAX_LAYERS:
        raise OSError("it is a list without a sensible length")
    for runner in _RUNNERS:
        for child in children:
            if not isinstance(child, dict) or child.get("format") not in (None, "", "gguf"):
                continue
            if str(child.get("runner") or "").lower() == runner:
                if "layers" in child or "digest" not in child:
                    return child
                return read_json(_blob(child, blobs)[0], _MANIFEST_BYTES)
    return {}


def _kind(layer: object) -> str:
    kind = layer.get("mediaType") if isinstance(layer, dict) else None
    return kind.removeprefix(_LAYER) if isinstance(kind, str) else ""


def _blob(layer: dict[str, Any], blobs: Path) -> tuple[Path, str]:
    """Return the file of a layer and its SHA-256; a digest that is none never becomes a path."""
    digest = layer.get("digest")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise OSError(f"{plain_text(repr(digest), 80)} is no digest")
    # Ollama writes the name as the digest is spelled, and digests in small letters.
    return blobs / f"sha256-{match[1]}", match[1].lower()


def _trouble(path: Path, name: str, what: str) -> File:
    shown = f'Ollama\'s entry for "{plain_text(name, 100)}"' if name else "A folder of Ollama's"
    message = f"{shown} {what}. It is {plain_text(str(path), 200)}."
    return File(path, label=name, error=UnreadableFileError(message, path=str(path)))


OLLAMA: Final = Source("ollama", "Ollama", _find)
