"""What this program finds on the machine, and what to do about each fault.

Promises: every check is made, whatever another one meets; a broken library can crash only the
process in which it is asked; nothing is changed on the machine (a folder that is not there yet is
said to be, not made). Leaves to others: the single checks (`doctor_engine`, `doctor_folders`,
`doctor_python`), printing (`gguf_widgets.cli`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

from gguf_widgets.core.doctor_engine import check_engine
from gguf_widgets.core.doctor_findings import Finding
from gguf_widgets.core.doctor_folders import check_folders
from gguf_widgets.core.doctor_python import check_python

__all__ = ["Finding", "Report", "examine", "to_text"]

Status = Literal["ok", "hint", "broken"]

_MARKS = {"ok": " ", "hint": "?", "broken": "!"}


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that was found, in the order it is shown."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> list[Finding]:
        """What does not work."""
        return [finding for finding in self.findings if finding.status == "broken"]

    @property
    def hints(self) -> list[Finding]:
        """What works, and could work better."""
        return [finding for finding in self.findings if finding.status == "hint"]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's kinds of values: ``ok`` and ``findings``."""
        return {
            "ok": not self.broken,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def examine() -> Report:
    """Look at everything; it takes a few seconds, because the engine is asked in processes."""
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        check_python,
        check_engine,
        check_folders,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001  # a check that fails is itself a finding
            findings.append(
                Finding(
                    topic="Doctor",
                    name=check.__name__,
                    value=f"{type(error).__name__}: {error}",
                    status="broken",
                    advice="This check failed. Please report this line.",
                )
            )
    return Report(tuple(findings))


def to_text(report: Report) -> str:
    """Return the report for a person: the facts by topic, then what to do."""
    lines: list[str] = []
    width = max((len(finding.name) for finding in report.findings), default=0)
    topic = None
    for finding in report.findings:
        if finding.topic != topic:
            topic = finding.topic
            lines += ["", topic]
        lines.append(f"{_MARKS[finding.status]} {finding.name.ljust(width)}  {finding.value}")
    for title, found in (("What is broken", report.broken), ("What could be better", report.hints)):
        if found:
            lines += ["", title]
            lines += [f"{_MARKS[one.status]} {one.name}: {one.advice}" for one in found]
    if not report.broken:
        lines += ["", "Everything that is needed works."]
    return "\n".join(lines).lstrip("\n")
