"""Papermill runs the notebook of experiments headless, with other parameters. About 10 s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from support.servers import REPOSITORY, Home

from gguf_widgets.experiments.document import read_file
from gguf_widgets.experiments.values import RunItem

NOTEBOOK = REPOSITORY / "notebooks" / "05_reproducible_experiment.ipynb"
pytestmark = pytest.mark.timeout(300)


def test_the_same_parameters_give_the_same_results_headless(tmp_path: Path) -> None:
    person = Home(tmp_path / "person")
    # Papermill looks kernels up by name; this is one that starts this very Python.
    kernel = person.folder / "kernels" / "kernels" / "tested"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "this Python", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    environment = {**person.environment, "JUPYTER_PATH": str(person.folder / "kernels")}
    records = []
    try:
        for number in (1, 2):
            out, record = tmp_path / f"out-{number}.ipynb", tmp_path / f"record-{number}.json"
            command = [
                *(sys.executable, "-m", "papermill", str(NOTEBOOK), str(out)),
                *("-k", "tested", "--no-progress-bar", "--cwd", str(person.folder / "work")),
                *("-p", "num_rows", "12", "-p", "record_file", str(record)),
            ]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=250, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            records.append(read_file(record))
        notebook = nbformat.read(out, as_version=4)
        injected = next(
            cell
            for cell in notebook.cells
            if "injected-parameters" in cell.metadata.get("tags", ())
        )
        assert "num_rows = 12" in injected.source
    finally:
        person.close()
    first, second = (found.record for found in records)
    assert not any(found.altered for found in records)
    runs = [item for item in (*first.items, *second.items) if isinstance(item, RunItem)]
    assert [len(item.rows) for item in runs] == [12, 12]
    texts = [[(one.text, one.tokens) for one in item.answers] for item in runs]
    assert texts[0] == texts[1]
    assert [model.model for model in first.models] == [model.model for model in second.models]
