"""A widget's page files, joined: its ES module with what it imports, and its style with the base.

anywidget hands a page one module and one style sheet as text, without a bundler and without a
network. The sources are real modules, so that a type checker reads them; what they share is written
once.

Promises: each imported file is in the result once, before whatever imports it; anything that is not
of the simple form below is refused, never guessed at. Leaves to others: the JavaScript itself (its
types are checked by `make check`).

    import { h, icon } from "./_dom.js";        the only form of an import, at the start of a line
    export function h(tag) {...}                the only form of an export, but for a widget's own
    export default { render };                  at the end of its file

All files of one widget share one scope in the end, so two of them must not declare the same name.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

__all__ = ["css", "esm"]

_PACKAGE = Path(__file__).resolve().parent.parent
_BASE = Path(__file__).parent / "static" / "_base.css"

_IMPORT = re.compile(r'import \{ ([\w$]+(?:, [\w$]+)*) \} from "(\.\.?/[\w./-]+\.js)";')
_DECLARATION = re.compile(
    r"(export )?(?:const|let|var|class|(?:async )?function\*?) ([\w$]+)(?=[ (;=])"
)
# What begins like an import, an export or a declaration is one; it must then be of a known form.
_KEYWORD = re.compile(r"(import|export|const|let|var|class|function|async function)\b")
_ELSEWHERE = re.compile(r"\s+(?:import|export)\b|.*(?<![\w$.@\"'])import\s*[(.]")
_COMMENT = re.compile(r"\s*(?://|/\*|\*)")


def esm(path: Path, package: Path = _PACKAGE) -> str:
    """Join a widget's module with all that it imports.

    Parameters
    ----------
    path : Path
        The widget's own file, with its `export default`.
    package : Path, optional
        The folder that no imported file may lie outside of; default: this package's.

    Returns
    -------
    str
        One module that imports nothing.

    Raises
    ------
    ValueError
        A file holds a form that is not known here; the text names the file and the line.
    """
    joining = _Joining(package.resolve())
    joining.add(path.resolve(), is_entry=True)
    return "\n".join(joining.parts)


def css(*paths: Path) -> str:
    """Join the base that all widgets share, which is colours and fonts, with a widget's styles."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (_BASE, *paths))


class _Joining:
    """The files taken so far, and the names that they declare and export."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self.parts: list[str] = []
        self._homes: dict[str, Path] = {}  # each declared name and its file
        self._exports: dict[Path, set[str]] = {}  # of the files that are done
        self._open: list[Path] = []  # those whose imports are being followed

    def add(self, path: Path, *, is_entry: bool = False) -> None:
        self._open.append(path)
        kept: list[str] = []
        exports: set[str] = set()
        defaults = 0
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            where = f"{path.name}:{number}"
            imported = _IMPORT.fullmatch(line)
            if imported:
                self._follow(where, path, imported[1].split(", "), imported[2])
                continue
            if _ELSEWHERE.match(line) and not _COMMENT.match(line):
                raise ValueError(f"{where}: only at the start of a line: {line.strip()}")
            if line.startswith("export default ") and is_entry:
                defaults += 1
                kept.append(line)
            elif _KEYWORD.match(line):
                declared = _DECLARATION.match(line)
                if not declared:
                    raise ValueError(f"{where}: this form is not known here: {line}")
                self._declare(where, path, declared[2])
                if declared[1]:
                    exports.add(declared[2])
                kept.append(line.removeprefix("export "))
            else:
                kept.append(line)
        if is_entry and defaults != 1:
            raise ValueError(f"{path.name}: one `export default` is wanted, not {defaults}")
        self.parts.append("\n".join(kept) + "\n")
        self._exports[path] = exports
        self._open.pop()

    def _follow(self, where: str, path: Path, names: list[str], target: str) -> None:
        file = (path.parent / target).resolve()
        if not file.is_relative_to(self._package):
            raise ValueError(f"{where}: {target} is outside of {self._package.name}")
        if not file.is_file():
            raise ValueError(f"{where}: {target} is not there")
        if file in self._open:
            raise ValueError(f"{where}: {target} imports this file, too")
        if file not in self._exports:
            self.add(file)
        for name, count in Counter(names).items():
            if name not in self._exports[file]:
                raise ValueError(f"{where}: {target} does not export {name}")
            if count > 1:
                raise ValueError(f"{where}: {name} is imported twice")

    def _declare(self, where: str, path: Path, name: str) -> None:
        home = self._homes.setdefault(name, path)
        if home != path:
            raise ValueError(f"{where}: {name} is declared in {home.name}, too")
