"""A table with images, asked of a real model that sees: the demo model with a random projector."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.tiny_projector import picture, write_projector

from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.images import image
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store
from gguf_widgets.demo.vision import figures
from tests.core.conftest import processes_of

ASK = "What is in the picture?"


@pytest.fixture
def seeing(manager: ModelManager, tmp_path: Path) -> Model:
    projector = write_projector(tmp_path / "mmproj.gguf")
    return manager.load("demo", mmproj=str(projector), n_ctx=4096)


def test_each_row_is_asked_about_its_own_image_and_one_that_is_none_fails_alone(
    seeing: Model, store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "one.png").write_bytes(picture(1))
    (folder / "letter.png").write_bytes(b"Dear all, this is no image.")
    table = pd.DataFrame(
        {
            "photo": ["one.png", str(folder / "one.png"), picture(2), "letter.png", "gone.png"],
            "name": ["a", "b", "c", "d", "e"],
        }
    )
    path = folder / "table.csv"
    table.iloc[[0, 1, 3, 4]].to_csv(path, index=False)
    processor = BatchProcessor(seeing, store=store, manager=manager)
    run = processor.run(path, ASK, images="photo", max_tokens=8)
    frame = run.to_frame()
    assert frame["status"].tolist() == ["done", "done", "failed", "failed"]
    assert frame["photo"].tolist() == table["photo"].iloc[[0, 1, 3, 4]].tolist()
    assert frame["error"][2].startswith('Column "photo": ')
    assert 'There is no image file "' in frame["error"][3]
    # What a single question is answered, with the same image.
    content = [{"role": "user", "content": [image(folder / "one.png"), ASK]}]
    alone = seeing.chat(content, temperature=0, max_tokens=8)
    assert frame["reply"][0] == frame["reply"][1] == alone.text
    assert frame["num_prompt_tokens"][0] == alone.usage.num_prompt_tokens
    # The same image and question is asked once, wherever it came from.
    assert frame["total_s"][:2].notna().sum() == 1


def test_a_run_with_images_goes_on_after_its_model_was_let_go(
    seeing: Model, store: Store, manager: ModelManager, home: Path
) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pictures = [picture(seed) for seed in range(6)]
    table = pd.DataFrame({"photo": pictures}, index=list("abcdef"))
    processor = BatchProcessor(seeing, store=store, manager=manager)
    whole = processor.run(table, ASK, images=["photo"], max_tokens=6).to_frame()
    assert whole["status"].eq("done").all()
    assert whole["photo"].tolist() == pictures
    assert whole.index.tolist() == list("abcdef")
    run = processor.prepare(table, "{photo}\n" + ASK, images="photo", max_tokens=6)
    seeing.unload()
    again = resume(run.id, store=store, manager=manager)  # loads the model with its projector
    assert again.to_frame()["reply"].tolist() == whole["reply"].tolist()
    assert len(processes_of(home, "gguf_widgets.core.worker")) == 1
    # Pillow's images are kept as what they are.
    (loaded,) = manager.loaded()
    processor = BatchProcessor(loaded, store=store, manager=manager)
    with pytest.raises(InvalidValueError, match="1 of 1 row has no value"):
        processor.prepare({"photo": [None]}, ASK, images="photo")
    kept = pd.DataFrame({"photo": [pillow.new("RGB", (60, 60), "red"), None]})
    skipped = processor.prepare(kept, ASK, images="photo", missing="skip", max_tokens=3)
    back = skipped.start().wait(60).to_frame()
    assert back["status"].tolist() == ["done", "skipped"]
    assert back["photo"][0].size == (60, 60)
    assert back["photo"][0].getpixel((5, 5)) == (255, 0, 0)


def test_drawings_become_typed_columns_that_are_mostly_right(
    model: Model, store: Store, manager: ModelManager
) -> None:
    drawn = [figures.numbered(5, number) for number in range(60)]
    table = pd.DataFrame(
        {
            "drawing": [figures.png_bytes(figures.render(one, 120, 90)) for one in drawn],
            "truth": [one.figure.colour for one in drawn],
        }
    )
    processor = BatchProcessor(model, store=store, manager=manager)
    colours = [f"{colour.title()}." for colour in figures.COLOURS]
    asked = processor.run(table, "What colour is it?", images="drawing", schema=colours)
    frame = asked.to_frame()
    assert frame["status"].eq("done").all()
    assert isinstance(frame["reply"].dtype, pd.CategoricalDtype)
    said = frame["reply"].astype(str).str.rstrip(".").str.lower()
    assert (said == frame["truth"]).mean() > 0.9


def test_what_cannot_be_is_said_before_a_row_is_asked(store: Store, manager: ModelManager) -> None:
    blind = BatchProcessor(manager.load("demo", mmproj=False), store=store, manager=manager)
    table = {"photo": [picture(1)], "text": ["x"]}
    with pytest.raises(InvalidValueError, match="loaded without a projector"):
        blind.prepare(table, ASK, images="photo")
    with pytest.raises(InvalidValueError, match='names "foto"'):
        blind.prepare(table, ASK, images="foto")
