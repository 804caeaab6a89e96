"""The demo model's eye: drawings, questions, the file, and that it names what it is shown.

About 10 seconds, nearly all of them in the measuring.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from gguf_widgets.demo import demo_model_path, demo_projector_path
from gguf_widgets.demo.chatml import TEMPLATE
from gguf_widgets.demo.sentences.base import Turn
from gguf_widgets.demo.vision import evaluate, export, figures, questions
from gguf_widgets.demo.vision.shape import EyeShape

NEEDS_GGUF = "the gguf package reads and writes the file for this test"
NEEDS_LLAMA = "llama-cpp-python is not installed, so the demo model cannot look at anything"

# What was measured on 300 drawings (see the model card), less a margin for few drawings.
FLOORS = {
    "what it is: shape": 0.88,
    "what it is: colour": 0.93,
    "what it is: both, word for word": 0.88,
    "what it is, picture after the words": 0.88,
    "which colour": 0.93,
    "which shape": 0.82,
}


@pytest.fixture(scope="module")
def onlooker() -> Iterator[evaluate.Onlooker]:
    pytest.importorskip("llama_cpp", reason=NEEDS_LLAMA)
    loaded = evaluate.Onlooker(threads=1)
    yield loaded
    loaded.close()


def drawings(count: int, seed: int = 0) -> list[figures.Drawing]:
    return [figures.numbered(seed, number) for number in range(count)]


def test_the_same_number_gives_the_same_drawing() -> None:
    first, second, other = (
        [zlib.crc32(figures.render(one).tobytes()) for one in drawings(40, seed)]
        for seed in (0, 0, 1)
    )
    assert first == second
    assert len({*first, *other}) == 80


@pytest.mark.parametrize("shape", figures.SHAPES)
def test_a_figure_is_where_its_drawing_says_and_as_large(shape: str) -> None:
    rng = Random(f"places {shape}")  # noqa: S311 - drawings, not secrets
    for width, height in ((64, 64), (200, 120), (90, 240)):
        x, y, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.2, 0.44)
        turn = rng.uniform(-3, 3)
        figure = figures.Figure(shape, "black", (0.0, 0.0, 0.0), x, y, radius, turn)
        dark = figures.render(figures.Drawing(figure), width, height).mean(axis=2) < 128
        rows, columns = np.nonzero(dark)
        size = radius * min(width, height)
        middle_x = width / 2 + x * (width / 2 - size)
        middle_y = height / 2 + y * (height / 2 - size)
        away = np.hypot(columns + 0.5 - middle_x, rows + 0.5 - middle_y) / size
        assert 0.8 < away.max() < 1.15, (width, height)
        assert 0.12 < dark.sum() / (np.pi * size * size) < 1.02


def test_a_drawing_looks_alike_at_any_size() -> None:
    for drawn in drawings(30):
        if drawn.noise or drawn.figure.outline or drawn.ground in ("stripes", "checks", "halves"):
            continue  # these are made of pixels, or of edges that fall between them
        small, large = (figures.render(drawn, side, side).astype(float) for side in (48, 192))
        shrunk = large.reshape(48, 4, 48, 4, 3).mean(axis=(1, 3))
        assert np.abs(small - shrunk).mean() < 2.0


def test_every_colour_keeps_its_distance_from_the_others_and_from_the_ground() -> None:
    rng = Random(4)  # noqa: S311 - drawings, not secrets
    paints = {
        colour: np.array([figures.paint(rng, colour) for _ in range(300)])
        for colour in figures.COLOURS
    }
    for colour, ours in paints.items():
        for other, theirs in paints.items():
            if other != colour:
                apart = np.abs(ours[:, None] - theirs[None]).max(axis=2).min()
                assert apart > 0.08, (colour, other)
    for drawn in drawings(200):
        for ground in drawn.ground_paints:
            apart = max(abs(a - b) for a, b in zip(ground, drawn.figure.paint, strict=True))
            assert apart > 0.2


def test_answers_follow_from_the_drawing() -> None:
    rng = Random(5)  # noqa: S311 - questions, not secrets
    orange_star = figures.Figure("star", "orange", (1.0, 0.5, 0.0))
    said = {
        kind: {questions.turn(rng, orange_star, kind, "train") for _ in range(300)}
        for kind in questions.POOLS
    }
    assert {turn.answer for turn in said["what"]} == {"An orange star."}
    assert {turn.answer for turn in said["colour"]} == {"Orange."}
    assert {turn.answer for turn in said["shape"]} == {"An orange star."}
    yes_or_no: dict[questions.Kind, str] = {"is shape": "star", "is colour": "orange"}
    for kind, word in yes_or_no.items():
        assert {turn.answer for turn in said[kind]} == {"An orange star."}
        asked_rightly = sum(word in turn.user.lower() for turn in said[kind])
        assert 0 < asked_rightly < len(said[kind])  # and wrongly, too


@pytest.mark.parametrize("last", [False, True])
def test_the_text_around_a_picture_is_that_of_the_chat_template(last: bool) -> None:
    jinja2 = pytest.importorskip("jinja2")
    turns = (Turn("What is it?", "A red star."), Turn("And the colour?", "Red."))
    asked = questions.Look(turns, last, "Be brief.", (Turn("Hi", "Hello!"),))
    words = [questions.MARK, "What is it?"]
    told = ["Be brief.", "Hi", "Hello!", "\n".join(words[::-1] if last else words)]
    told += ["A red star.", "And the colour?", "Red."]
    roles = ["system", *["user", "assistant"] * 3]
    messages = [{"role": r, "content": c} for r, c in zip(roles, told, strict=True)]
    template = jinja2.Template(TEMPLATE)
    joined = questions.MARK.join(questions.before_and_after(asked))
    assert joined == template.render(messages=messages)
    opened = questions.MARK.join(questions.before_and_after(asked, answers=False))
    assert opened == template.render(messages=messages[:-1], add_generation_prompt=True)


def keys_of(gguf: Any, path: Path) -> dict[str, Any]:
    return {
        key: field.contents()
        for key, field in gguf.GGUFReader(path).fields.items()
        if not key.startswith("GGUF.")
    }


def tensors_of(gguf: Any, path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        tensor.name: (tensor.tensor_type.name, tuple(map(int, tensor.shape)))
        for tensor in gguf.GGUFReader(path).tensors
    }


def random_weights(shape: EyeShape) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, (0.1 if len(size) < 2 else np.prod(size[1:]) ** -0.5), size)
        for name, size in shape.weights().items()
    }


def test_the_file_is_what_export_makes_of_a_checkpoint(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason=NEEDS_GGUF)
    shape = EyeShape()
    done = dict.fromkeys(("seed", "seeing", "telling", "steps", "pictures"), 1)
    again = [
        export.write(random_weights(shape), shape, done, tmp_path / f"{i}.gguf") for i in range(2)
    ]
    assert again[0].read_bytes() == again[1].read_bytes()
    assert again[0].stat().st_size == demo_projector_path().stat().st_size <= 3_000_000
    assert tensors_of(gguf, again[0]) == tensors_of(gguf, demo_projector_path())
    ours, theirs = keys_of(gguf, again[0]), keys_of(gguf, demo_projector_path())
    assert ours.pop("gguf_widgets.demo.training") != theirs.pop("gguf_widgets.demo.training")
    assert ours == theirs


def test_it_belongs_to_the_demo_model() -> None:
    gguf = pytest.importorskip("gguf", reason=NEEDS_GGUF)
    model, eye = keys_of(gguf, demo_model_path()), keys_of(gguf, demo_projector_path())
    assert eye["general.architecture"] == "clip"
    assert eye["general.basename"] == model["general.basename"]
    assert eye["clip.vision.projection_dim"] == model["llama.embedding_length"]


def test_the_network_computes_what_llama_cpp_computes(
    onlooker: evaluate.Onlooker, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="torch trains the eye, and only that")
    pytest.importorskip("gguf", reason=NEEDS_GGUF)
    from gguf_widgets.demo.vision.encoder import Eye

    shape = EyeShape()
    halved = {
        name: values.astype(np.float16).astype(np.float32)
        for name, values in random_weights(shape).items()
    }
    done = dict.fromkeys(("seed", "seeing", "telling", "steps", "pictures"), 1)
    loaded = evaluate.Onlooker(export.write(halved, shape, done, tmp_path / "random.gguf"))
    eye = Eye(shape)
    eye.load_state_dict({name: torch.from_numpy(values) for name, values in halved.items()})
    pixels = figures.render(figures.numbered(0, 0))
    with torch.no_grad():
        ours = eye(torch.from_numpy(pixels)[None])[0].numpy()
    theirs = np.array(loaded.embeddings(figures.png_bytes(pixels)))
    loaded.close()
    assert np.abs(ours - theirs).max() < 0.02 * ours.std()


def test_it_names_what_it_was_never_shown(onlooker: evaluate.Onlooker) -> None:
    scores = {score.kind: score for score in evaluate.measure(onlooker, 60, seed=5)}
    assert {kind for kind, floor in FLOORS.items() if scores[kind].share < floor} == set(), {
        kind: (score.share, score.wrong[:3]) for kind, score in scores.items()
    }


def test_another_picture_gets_another_answer(onlooker: evaluate.Onlooker) -> None:
    asked = questions.Look((Turn("What is in the picture?", ""),))
    said = set()
    for shape, colour in (("circle", "red"), ("square", "blue"), ("star", "black")):
        red, green, blue = (part / 255 for part in figures.PLAIN[colour])
        drawn = figures.Drawing(figures.Figure(shape, colour, (red, green, blue)))
        png = figures.png_bytes(figures.render(drawn, 300, 300))
        said.add(onlooker.look(png, asked))
    assert said == {"A red circle.", "A blue square.", "A black star."}
