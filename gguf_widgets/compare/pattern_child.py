"""The process that looks for a pattern in an answer; `pattern_process` starts it and asks it.

A regular expression is a program, and some run for centuries on a text that was made for them (or
that a model happened to write): Python cannot stop one once it has begun, and all threads wait for
it. So patterns are looked for here, and where it takes too long this process ends itself.

Promises: no search outlives its limit, even if the parent has died: a thread of the C library ends
this process, whatever Python is at. It ends when its standard input closes. It writes to nothing
but its standard output. Leaves to others: starting it again.

Run as a file, not as a module, with nothing of this package imported. In: a line of JSON for each
search. Out: a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import re
import sys
import warnings
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def look(question: dict[str, Any]) -> dict[str, Any]:
    """Return whether the pattern is in the text, and what its first group caught."""
    try:
        pattern = re.compile(question["pattern"], question["flags"])
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        return {"error": f"{error}"[:300]}
    whole = question["whole"]
    found = pattern.fullmatch(question["text"]) if whole else pattern.search(question["text"])
    caught = found.group(1) if found is not None and pattern.groups else None
    return {"found": found is not None, "caught": caught, "groups": pattern.groups}


def main(limit_s: float, max_bytes: int) -> None:
    """Answer until standard input closes."""
    warnings.simplefilter("ignore")
    if resource is not None:
        # macOS does not keep to this limit and may refuse it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    for line in sys.stdin.buffer:
        question = json.loads(line)
        faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.stderr)
        try:
            answer = look(question)
        except MemoryError:
            answer = {"error": "it needs too much memory"}
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
