"""Log probabilities of a text straight from llama.cpp: a program of its own, without our engine.

``python raw_scores.py MODEL QUESTIONS.json ANSWERS.npz``: QUESTIONS maps names to questions, each a
list of runs of tokens, or ``{"prompt": [...], "n": 40}`` for a greedy reply. Each run is evaluated
from an empty memory by `llama_cpp.Llama(logits_all=True)`; ANSWERS has, under the name and the
run's number, the log probabilities after each of its tokens, in double precision.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["raw_scores"]


def raw_scores(
    model: Path, questions: Mapping[str, Any], folder: Path
) -> dict[str, list[NDArray[np.float64]]]:
    """Ask in a process of its own; return the answer to each question, run by run."""
    asked, answered = folder / f"{model.stem}.json", folder / f"{model.stem}.npz"
    asked.write_text(json.dumps(dict(questions)))
    command = [sys.executable, __file__, str(model), str(asked), str(answered)]
    subprocess.run(command, check=True, timeout=120)
    with np.load(answered) as found:
        names: dict[str, list[NDArray[np.float64]]] = {}
        for name in sorted(found.files, key=lambda key: int(key.rsplit(" ", 1)[1])):
            names.setdefault(name.rsplit(" ", 1)[0], []).append(found[name])
    return names


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def _main(model: str, questions: str, answers: str) -> None:
    from llama_cpp import Llama

    llama: Any = Llama(
        model, n_ctx=1024, n_batch=512, logits_all=True, n_threads=1, verbose=False, seed=0
    )

    def after(tokens: list[int]) -> NDArray[np.float64]:
        llama.reset()
        llama.eval(tokens)
        return _log_softmax(np.array(llama.scores[: len(tokens)]))

    found = {}
    for name, question in json.loads(Path(questions).read_text()).items():
        if isinstance(question, dict):
            tokens = list(question["prompt"])
            llama.reset()
            llama.eval(tokens)
            rows = []
            for _ in range(question["n"]):
                rows.append(_log_softmax(np.array(llama.scores[llama.n_tokens - 1 :][:1]))[0])
                llama.eval([int(rows[-1].argmax())])
            found[f"{name} 0"] = np.array(rows)
            continue
        for number, tokens in enumerate(question):
            found[f"{name} {number}"] = after(tokens)
    np.savez(answers, **found)


if __name__ == "__main__":
    _main(*sys.argv[1:])
