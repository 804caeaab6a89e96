"""Every notebook of the repository runs from top to bottom in a real kernel of this Python."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from support.servers import REPOSITORY, Home

# A notebook that takes 10 s takes a minute and more when all cores are busy with something else.
pytestmark = pytest.mark.timeout(300)

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


class _ThisPython(AsyncKernelManager):
    """Starts this very Python, whatever kernel specs the machine has."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="this Python", language="python")


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def run(
    path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> dict[str, nbformat.NotebookNode]:
    """Run a notebook; return its code cells by id. An error in a cell is raised."""
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=250,
        kernel_manager_class=_ThisPython,
        resources={"metadata": {"path": str(home.folder / "work")}},
    )
    client.execute()
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def text_of(cell: nbformat.NotebookNode) -> str:
    """Return what a cell printed and showed, as text."""
    # What is printed with flush comes as many pieces, which belong together as they are.
    printed = "".join(output.get("text", "") for output in cell.outputs)
    shown = [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join([printed, *shown])


def mime_types(cell: nbformat.NotebookNode) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def test_the_dashboard_notebook_shows_a_widget(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "dashboard.ipynb", person, monkeypatch)
    assert "application/vnd.jupyter.widget-view+json" in mime_types(cells["dashboard"])
    assert sum(len(cell.source.splitlines()) for cell in cells.values()) == 3


def test_the_first_chat_shows_what_its_words_promise(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "01_first_chat.ipynb", person, monkeypatch)
    assert "demo" in text_of(cells["models"])
    assert "<Model 'demo': llama" in text_of(cells["load"])
    assert "Hello" in text_of(cells["chat"])
    assert "positive" in text_of(cells["label"]).lower()
    assert "Emma" in text_of(cells["stream"])
    conversation = text_of(cells["conversation"])
    assert "Paris" in conversation
    assert conversation.count("assistant") == 2
    numbers = text_of(cells["numbers"])
    for column in ("prompt_tokens", "reply_tokens", "first_token_s", "tokens_per_s"):
        assert column in numbers
    assert "a story" in numbers
    assert "application/vnd.jupyter.widget-view+json" in mime_types(cells["box"])
    # Nobody reads a warning in the middle of a tutorial.
    assert [
        output
        for cell in cells.values()
        for output in cell.outputs
        if output.get("name") == "stderr"
    ] == []


def test_a_table_becomes_a_typed_table_and_how_often_it_is_right_is_measured(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "02_batch_to_dataframe.ipynb", person, monkeypatch)
    right = re.search(r"(\d+)% of 200 reviews", text_of(cells["accuracy"]))
    assert right is not None
    assert int(right[1]) >= 80
    assert "category" in text_of(cells["types"])
    assert re.search(r"200 rows, 200 replies", text_of(cells["preflight"]))
    parts = text_of(cells["parts"])
    whole = re.search(r"all four +(\d+)%", parts)
    assert whole is not None
    assert int(whole[1]) >= 75
    assert "Int64" in parts
    seen = re.search(r"(\d+)% of 60 drawings", text_of(cells["seen"]))
    assert seen is not None
    assert int(seen[1]) >= 85
    assert "200 of 200 rows" in text_of(cells["resume"])
    bars = [one for one in cells["label"].outputs if "text/html" in one.get("data", {})]
    assert "progressbar" in bars[0].data["text/html"]
    assert "200 of 200 rows" in bars[0].data["text/html"], "the bar is drawn over, not repeated"


def test_a_model_is_looked_into_and_what_the_words_promise_is_shown(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "03_look_inside_a_model.ipynb", person, monkeypatch)
    assert "erful" in text_of(cells["tokens"])
    assert "😀" in text_of(cells["bytes"])
    assert "Emma" in text_of(cells["chances"])
    stories = re.findall(r"^\d -> (.*?)(?: \(again\))?$", text_of(cells["seeds"]), re.MULTILINE)
    assert len(stories) == 4
    assert stories[3] == stories[0], "the same seed tells the same story"
    assert len(set(stories)) > 1, "and others tell others"
    counts = re.findall(r"(\d+) different", text_of(cells["temperatures"]))
    assert counts[0] == "1"
    assert int(counts[2]) > 1
    assert text_of(cells["begin"]).startswith("One night")
    assert "<|im_start|>system\nYou are kind.<|im_end|>" in text_of(cells["prompt"])
    assert "True" in text_of(cells["prompt-tokens"])
    branch = text_of(cells["branch"])
    first, second = [line for line in branch.splitlines() if line.strip()][1:3]
    assert first != second
    assert first[:20] == second[:20]
    assert "2 versions of this answer" in branch
    assert "The same answer, to the last of" in text_of(cells["repeat"])
    assert "application/vnd.jupyter.widget-view+json" in mime_types(cells["box"])


def test_sizes_of_a_model_are_compared_and_what_the_words_promise_is_shown(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "04_compare_models.ipynb", person, monkeypatch)
    assert '"demo-Q2_K" is ready' in text_of(cells["convert"])
    table = "".join(str(output.get("data", {})) for output in cells["compare"].outputs)
    for side in ("demo", "demo-Q4_0", "demo-Q2_K"):
        assert f"<td>{side}</td>" in table
    assert "150 of 150" in table
    assert re.search(r"is better than|Not enough data to tell|No difference", table)
    assert re.search(r"over 150 prompts|of the 150 prompts", text_of(cells["difference"]))
    summary = text_of(cells["summary"])
    for column in ("json", "tok_per_s", "memory_bytes"):
        assert column in summary
    for picture in ("quality", "differences"):
        (shown,) = cells[picture].outputs
        assert "application/vnd.plotly.v1+json" in shown.data
    assert len(cells["quality"].outputs[0].data["application/vnd.plotly.v1+json"]["data"]) == 3
    assert "part at token" in text_of(cells["divergence"])
    assert "Not enough data to tell" in text_of(cells["vote"])
    early = text_of(cells["sides"])
    assert "because it was clear: “question” is ahead" in early
    assert "“question” is better than “only the review”" in early
    assert "Three sizes of the demo model" in text_of(cells["kept"])
    assert "comparison_again.ipynb" in text_of(cells["export"])


def test_an_experiment_is_repeated_to_the_last_token_and_a_change_is_found(
    person: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = run(REPOSITORY / "notebooks" / "05_reproducible_experiment.ipynb", person, monkeypatch)
    assert cells["parameters"].metadata.tags == ["parameters"]
    recorded = text_of(cells["record"])
    assert "1 answer, 1 batch run (60 rows) with demo." in recorded
    assert "Strict: each answer was computed by itself." in recorded
    assert "All 61 answers are the same, to the last token." in text_of(cells["replay"])
    for number in (1, 32):
        assert f"{number:2} side by side: 61 the same, 0 not" in text_of(cells["batches"])
    changed = text_of(cells["changed"])
    assert "temperature was 0.8 and is 2.0 now." in changed
    assert re.search(r"\d+ of 61 answers differ", changed)
    assert "changed after it was saved: item 1 (answer, sampling)" in text_of(cells["altered"])
    assert re.search(r"each by itself \d+ rows/s", text_of(cells["cost"]))
    assert "None of it is strict" in text_of(cells["without"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_every_notebook_is_run_by_a_test() -> None:
    assert {path.name for path in NOTEBOOKS} == {
        "dashboard.ipynb",
        "01_first_chat.ipynb",
        "02_batch_to_dataframe.ipynb",
        "03_look_inside_a_model.ipynb",
        "05_reproducible_experiment.ipynb",
        "04_compare_models.ipynb",
    }
