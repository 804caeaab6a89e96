"""What the hub holds, as plain data that shows itself as a table.

Promises: everything in it was checked by `hub`, which makes these; texts from the hub are one line
and escaped where they become HTML. Leaves to others: asking (`hub`), judging (`listing`).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
from collections.abc import Sequence

from gguf_widgets.core.download.repo_files import RepoModel
from gguf_widgets.core.format import format_bytes, format_count, plain_text

__all__ = ["Found", "FoundList", "Repo"]


@dataclasses.dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one moment.

    Attributes
    ----------
    name : str
        "owner/repo".
    revision : str
        The commit, so that nothing changes between looking and fetching.
    license : str
        As its maker says; "" if nothing is said.
    gated : bool
        Whether one has to accept conditions first.
    models : tuple of RepoModel
        The smallest first.
    left_out : tuple of str
        Files whose names could lead out of a folder, so they are not fetched.
    """

    name: str
    revision: str
    license: str
    gated: bool
    models: tuple[RepoModel, ...]
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        head = f"{self.name}, licence {self.license or 'not stated'}, revision {self.revision[:8]}"
        head += ", conditions to be accepted" if self.gated else ""
        rows = [("Version", "Size", "Files", "Sees or hears", "Fits", "Name")]
        words = {"yes": "yes", "with_settings": "with smaller settings", "no": "no"}
        for model in self.models:
            fits = "" if model.fit is None else words[model.fit.verdict]
            if model.fit is not None and model.fit.judged_by == "size":
                fits += " (by its size)"
            if not model.complete:
                fits = "a part is missing"
            rows.append(
                (
                    model.quantization or "?",
                    format_bytes(model.total_bytes),
                    str(len(model.files)),
                    "yes" if model.companion else "",
                    fits,
                    plain_text(model.path, 100),
                )
            )
        return f"{head}\n{_table(rows)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A repository that a search found.

    Attributes
    ----------
    name : str
        "owner/repo"; with "hf:" before it, what `fetch` takes.
    downloads, likes : int or None
    license : str
    gated : bool
    updated : datetime or None
        When something in it was changed last.
    """

    name: str
    downloads: int | None
    likes: int | None
    license: str
    gated: bool
    updated: dt.datetime | None = None


class FoundList(list[Found]):
    """What a search found, as a list that shows itself as a table."""

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            ("Repository", "Downloads", "Likes", "Licence", "Conditions"),
            *(
                (
                    f"hf:{one.name}",
                    "" if one.downloads is None else format_count(one.downloads),
                    "" if one.likes is None else format_count(one.likes),
                    one.license,
                    "to be accepted" if one.gated else "",
                )
                for one in self
            ),
        ]

    def __repr__(self) -> str:
        return _table(self._rows()) if self else "Nothing was found."

    def _repr_html_(self) -> str:
        head, *body = self._rows()
        lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
        heads = "".join(f"<th>{cell}</th>" for cell in head)
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
