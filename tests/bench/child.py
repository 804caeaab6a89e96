"""One contestant in a process of its own: a line of JSON in is rows to compute, one out the times.

    python tests/bench/child.py KIND SETUP_JSON

Whatever a library prints goes to stderr. The process ends when its stdin does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import KINDS, Contestant, Setup, Work  # noqa: E402 - the path comes first


def main(kind: str, setup: str) -> None:
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    contestant: Contestant = KINDS[kind](msgspec.json.decode(setup, type=Setup))
    answers.write(b"ready\n")
    try:
        for line in sys.stdin.buffer:
            outcome = contestant.run(msgspec.json.decode(line, type=Work))
            answers.write(msgspec.json.encode(outcome) + b"\n")
    finally:
        contestant.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
