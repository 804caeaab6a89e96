"""All models of this machine as one list, and a name's file.

Promises: `ModelLibrary.entries` lists the bundled demo model and every GGUF file that a source
knows (`sources`), once each and under a name of its own; a file that cannot be used is listed with
its reason, never left out and never fatal; nothing is changed; headers are read again only when
their file has changed. Leaves to others: downloading (`core.download`), loading (`core.manager`),
and showing (`widgets.model_picker`).
"""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.cache import HEADERS, identities
from gguf_widgets.core.library.duplicates import with_duplicates
from gguf_widgets.core.library.entry import ModelEntry
from gguf_widgets.core.library.facts import CAPABILITIES, Facts
from gguf_widgets.core.library.folders import BESIDE
from gguf_widgets.core.library.hashes import Hashes, joined_sha256
from gguf_widgets.core.library.hugging_face import named_sha256
from gguf_widgets.core.library.items import FoundFile, Source
from gguf_widgets.core.library.judge import Machine
from gguf_widgets.core.library.model_list import ModelList
from gguf_widgets.core.library.places import user_dirs
from gguf_widgets.core.library.projectors import is_near, pair
from gguf_widgets.core.library.scan import scan
from gguf_widgets.core.library.sources import (
    beside_source,
    folder_sources,
    own_folders,
    sources,
)
from gguf_widgets.core.library.usage import last_uses

__all__ = ["DEMO_NAME", "ModelLibrary", "models"]

DEMO_NAME: Final = "demo"


class ModelLibrary:
    """The models in some folders, or wherever programs on this machine have them; and the demo.

    Parameters
    ----------
    folders : path-like or iterable of path-like, optional
        Look here and nowhere else. Default: our models folder, the folders that were added
        (`add_folder`), those of ``GGUF_WIDGETS_MODELS``, the programs of `sources`, and the single
        files that were added (`folders.add_file`), all asked for again each time.
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    ) -> None:
        if isinstance(folders, str | os.PathLike):
            folders = [folders]
        self._folders = None if folders is None else [config.expanded(f) for f in folders]

    @property
    def folders(self) -> list[Path]:
        """The folders that are looked through, without those of other programs."""
        return own_folders() if self._folders is None else list(self._folders)

    def entries(self) -> ModelList:
        """Return all models: the demo first, then source by source, by name.

        A projector that goes with a model here is a part of that model's entry.

        Reading 50 headers takes some 0.5 s the first time and no more than a look at each file's
        date after that, also in the next session.

        Raises
        ------
        InvalidValueError
            ``GGUF_WIDGETS_SOURCES`` names a program that there is not.
        """
        named = self._named()
        facts = _facts([found for _, found in named if found.error is None])
        projectors = pair((found, facts[found.path]) for _, found in named if found.error is None)
        paired = {id(projector) for some in projectors.values() for projector in some}
        machine, hashes, used = Machine(), Hashes(), last_uses()
        entries = []
        for name, found in named:
            if id(found) in paired or found.program == BESIDE:
                continue
            about = facts.get(found.path, Facts())
            own = [file.path for file in projectors.get(id(found), [])]
            entries.append(
                ModelEntry(
                    name,
                    found.path,
                    about.info,
                    found.error if found.error is not None else about.error(),
                    found.source,
                    program=found.program,
                    kind=_kind(about),
                    capabilities=_capabilities(about, [facts[path] for path in own[:1]]),
                    mmproj=own[0] if own else None,
                    mmproj_others=tuple(own[1:]),
                    places=tuple(place for place in found.places if place.program != BESIDE),
                    last_used=used.get(str(found.path)),
                    known_sha256=_known_sha256(found, about, hashes),
                    fingerprint=about.fingerprint,
                    machine=machine,
                )
            )
        return ModelList(with_duplicates(entries))

    def resolve(self, name_or_path: str | os.PathLike[str]) -> Path:
        """Return the absolute path of a model's file (of a split model: of its first part).

        Parameters
        ----------
        name_or_path : str or path-like
            A name from `entries` (capital letters do not matter), or a path.

        Raises
        ------
        ModelNotFoundError
            If there is none; the message has the nearest names.
        NotAFileError
            If the path is a folder.
        UnreadableFileError
            If it is in a folder that you may not look into.
        """
        text = os.fspath(name_or_path)
        if not isinstance(name_or_path, os.PathLike):
            if text.startswith(("hf:", "https:", "http:")):
                return _fetched_before(text)
            if text == DEMO_NAME:  # always the first of its name, so nothing needs to be found
                return _demo().path
            named = [(name, found) for name, found in self._named() if found.program != BESIDE]
            for name, found in named:
                if name == text:
                    return found.path
            # Ollama's own rule: a name without a tag is that of its latest version. And a file that
            # is listed under one of its names is known by the others, too.
            wanted = (text.casefold(), f"{text}:latest".casefold())
            for name, found in named:
                labels = {place.label.casefold() for place in found.places if place.label}
                if name.casefold() in wanted or not labels.isdisjoint(wanted):
                    return found.path
        else:
            named = []
        return self._resolve_path(text, named)

    def projector_of(self, path: Path) -> Path | None:
        """Return the image companion that goes with a model's file, as its entry has it.

        Only headers of what lies where the model does are read, and of what a program itself gives
        it; for a file outside all folders, what lies beside it.
        """
        here = str(path)
        found = [file for _, file in self._named() if file.error is None]
        model = next((f for f in found if any(str(p.path) == here for p in f.places)), None)
        if model is None:
            found = scan([beside_source(path.parent)], user_dirs())
            found = [file for file in found if file.error is None]
            model = next((f for f in found if str(f.path) == here), None)
        if model is None:
            return None
        near = [file for file in found if file is model or is_near(file, model)]
        if len(near) == 1:  # as most models are: nothing is read
            return None
        facts = _facts(near)
        projectors = pair((file, facts[file.path]) for file in near).get(id(model), [])
        for projector in projectors:
            about = facts[projector.path].projector
            if about is not None and about.vision:
                return projector.path
        return None

    def change_token(self) -> str:
        """Return a text that changes whenever the list may have changed; cheap enough to poll."""
        digest = hashlib.blake2b(digest_size=16)
        for name, found in self._named():
            digest.update(repr((name, str(found.path), identities(found.path))).encode())
        return digest.hexdigest()

    def _named(self) -> list[tuple[str, FoundFile]]:
        """Find all files and give each a name of its own, without reading any."""
        found = scan(self._sources(), user_dirs(), known=_bundled())
        named: list[tuple[str, FoundFile]] = []
        taken: set[str] = set()
        for file in found:
            name = _unique(file, taken) if named else DEMO_NAME
            taken.add(name.casefold())
            named.append((name, file))
        return named

    def _sources(self) -> list[Source]:
        return sources() if self._folders is None else folder_sources(self._folders)

    def _resolve_path(self, text: str, named: list[tuple[str, FoundFile]]) -> Path:
        path = config.expanded(text)
        exists, is_folder = True, False
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except PermissionError as error:
            raise UnreadableFileError(
                f'You have no permission to look into the folder of "{plain_text(text, 200)}". '
                "Change its permissions, or ask its owner.",
                path=str(path),
            ) from error
        except (OSError, ValueError):  # not there, too long, or with a zero byte
            exists = False
        if is_folder:
            raise NotAFileError(
                f'"{plain_text(text, 200)}" is a folder. Choose a model file (.gguf) inside it.',
                path=str(path),
            )
        if exists:
            split = split_name(path)
            first = split.path_of(1, path.parent) if split else path
            return first if first.exists() else path
        shown = plain_text(text, 200)
        near = difflib.get_close_matches(text, [name for name, _ in named], n=3, cutoff=0.5)
        if os.sep in text or text.endswith(".gguf"):
            message = f'There is no file "{shown}".'
        else:
            message = f'There is no model called "{shown}" in {self._home()}.'
        if near:
            message += " Did you mean " + " or ".join(f'"{name}"' for name in near) + "?"
        raise ModelNotFoundError(message, name=text, near=near)

    def _home(self) -> str:
        folders = self.folders
        return f"the folder {plain_text(str(folders[0]), 200)}" if folders else "the models folder"


def _fetched_before(name: str) -> Path:
    from gguf_widgets.core import download  # late: it is seldom asked for

    here = download.find(name)
    if here is None:
        shown = plain_text(name, 200)
        raise ModelNotFoundError(
            f"{shown} is not on this machine yet. Get it with: gguf-widgets get {shown}", name=name
        )
    return here


def models() -> ModelList:
    """Return every model on this machine: the bundled demo, and whatever `sources` knows.

    Examples
    --------
    >>> models()[0].name
    'demo'
    """
    return ModelLibrary().entries()


def _bundled() -> list[FoundFile]:
    """Find what comes with the package: the demo model first, and its image companion."""
    from gguf_widgets import demo  # Late: only the list needs it.

    model = _demo()
    try:
        companion = demo.demo_projector_path().absolute()
    except OSError:  # also if it is not there: the model does without
        return [model]
    model.companions.append(companion)
    return [model, FoundFile(companion, "demo", "demo")]


def _demo() -> FoundFile:
    """Find the bundled model; an installation without it says so in its line of the list."""
    from gguf_widgets import demo  # Late: only the list needs it.

    path = Path(demo.__file__).absolute().with_name(demo.MODEL_FILE)
    reason: ModelFileError
    try:
        return FoundFile(demo.demo_model_path().absolute(), "demo", "demo")
    except FileNotFoundError as error:
        reason = ModelNotFoundError(str(error), path=str(path))
    except OSError as error:  # the package is installed where this person may not look
        message = f"The bundled model cannot be read: {error.strerror or error}."
        reason = UnreadableFileError(message, path=str(path))
    return FoundFile(path, "demo", "demo", error=reason)


def _unique(file: FoundFile, taken: set[str]) -> str:
    """Name a file after itself; where that is taken, its folders tell it apart, then a number."""
    split = split_name(file.path)
    stem = file.label or (split.stem if split else file.path.stem)
    name = plain_text(stem, 200).strip() or "unnamed"
    if name.casefold() not in taken:
        return name
    folder = file.path.parent
    for part in (file.hint, folder.name, str(folder)):
        candidate = f"{name} ({plain_text(part, 60)})"
        if part and part != name and candidate.casefold() not in taken:
            return candidate
    number = 2
    while f"{name} ({number})".casefold() in taken:
        number += 1
    return f"{name} ({number})"


def _facts(files: list[FoundFile]) -> dict[Path, Facts]:
    """Return what is known of the files, by path."""
    facts: dict[Path, Facts] = {}
    for keep in (False, True):
        # The bundled model is quickly read and always the same: for it alone nothing is written.
        paths = [file.path for file in files if (file.program != "demo") is keep]
        facts.update(zip(paths, HEADERS.read_all(paths, keep=keep), strict=True))
    return facts


def _kind(about: Facts) -> Literal["model", "mmproj", "other"]:
    if about.info is not None:
        return "model"
    return "mmproj" if about.projector is not None else "other"


def _capabilities(about: Facts, projectors: list[Facts]) -> tuple[str, ...]:
    found = set(about.capabilities)
    for projector in projectors:
        if projector.projector is not None and projector.projector.vision:
            found.add("vision")
        if projector.projector is not None and projector.projector.audio:
            found.add("audio")
    return tuple(name for name in CAPABILITIES if name in found)


def _known_sha256(found: FoundFile, about: Facts, hashes: Hashes) -> str | None:
    """Return the hash of a model, all parts together, as far as nothing has to be read for it."""
    if about.info is None:
        return None
    split = split_name(found.path)
    if split is None or about.info.num_files == 1:
        return found.sha256 or hashes.known(found.path) or None
    numbers = range(1, split.num_parts + 1)
    parts = [split.path_of(number, found.path.parent) for number in numbers]
    in_hub = found.program == "huggingface"
    known = [(named_sha256(part) if in_hub else "") or hashes.known(part) for part in parts]
    return joined_sha256(known) if all(known) else None
