"""Train the demo model's eye from scratch: ``python -m gguf_widgets.demo.vision.train``.

Promises: every random choice comes from the seed, so the same seed, the same versions and the same
machine give the same run. A run that was stopped goes on from its last checkpoint. The language
model is read from its file and never changed.

First the eye learns to see: two small heads, thrown away afterwards, name shape and colour from
what it makes of each patch, so every patch learns of the whole picture. Then it learns to tell: its
image tokens go into the frozen demo model, and what the demo model would answer is what counts; for
a start this moves the projector alone.

Leaves to others: writing the projector file (`export`) and measuring it (`evaluate`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from gguf_widgets.demo import demo_model_path
from gguf_widgets.demo.needs import require
from gguf_widgets.demo.vision import figures, questions

SEEING, TELLING = 1800, 2200  # steps
PROJECTOR_ALONE = 300  # of the steps of telling, the first
PICTURES = 128  # in a step of seeing
PICTURES_TO_SEE, PICTURES_TO_TELL = 96, 48  # in a step of telling; the latter are some of them
THREADS = 2  # halves of a step that are learned from side by side
CHECKPOINT_EVERY = 250  # steps
MATRIX_RATE, OTHER_RATE = 0.02, 0.002
RISE = 100  # steps
SEEING_SHARE = 0.2  # of the two heads' loss while the eye learns to tell
PICTURE = -1  # stands in a row of tokens for one image token


def rate_at(step: int, steps: int) -> float:
    """Return the factor on the learning rates: a short rise, a plateau, a straight line down."""
    return min(1.0, (step + 1) / RISE, max(0.01, (1.0 - step / steps) / 0.6))


class Run:
    """A training run: the eye, its optimizers, and how far it is.

    Parameters
    ----------
    folder
        Where the checkpoint and the log are kept.
    seed
        Decides everything random.
    seeing, telling
        Steps of the two parts.
    pool
        Threads to work in.
    """

    def __init__(self, folder: Path, seed: int, seeing: int, telling: int, pool: Executor) -> None:
        self.torch = torch = require("torch")
        from gguf_widgets.demo import optimizer
        from gguf_widgets.demo.chatml import END, START
        from gguf_widgets.demo.vision import encoder, language
        from gguf_widgets.demo.vision.shape import EyeShape

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.pool = folder, pool
        torch.set_num_threads(1)  # inside each operation; see `gguf_widgets.demo.train`
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        self.speaker = language.Speaker(demo_model_path())
        self.start, self.end = (self.speaker.tokens(mark)[0] for mark in (START, END))
        self.assistant = self.speaker.tokens("assistant\n")
        self.shape = EyeShape(language_width=self.speaker.network.shape.width)
        self.eye = encoder.Eye(self.shape)
        self.heads = torch.nn.Linear(
            self.shape.width, len(figures.SHAPES) + len(figures.COLOURS), bias=True
        )
        self.weights = [*self.eye.parameters(), *self.heads.parameters()]
        inner = [w for name, w in self.eye.named_parameters() if _is_inner(name, w)]
        apart = {id(weight) for weight in inner}
        others = [weight for weight in self.weights if id(weight) not in apart]
        self.muon = optimizer.Muon(inner, lr=MATRIX_RATE, pool=pool)
        self.adam = torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self.done: dict[str, Any] = {
            "seed": seed, "seeing": seeing, "telling": telling, "steps": 0, "pictures": 0,
            "wall_s": 0.0, "cpu_s": 0.0,
        }  # fmt: skip
        if self.checkpoint.exists():
            self._restore()

    @property
    def checkpoint(self) -> Path:
        """The file that holds everything needed to go on."""
        return self.folder / "checkpoint.pt"

    @property
    def steps(self) -> int:
        """Length of the whole run."""
        return int(self.done["seeing"] + self.done["telling"])

    def _restore(self) -> None:
        saved = self.torch.load(self.checkpoint, weights_only=True)
        fixed = ("seed", "seeing", "telling")
        if any(saved["done"][key] != self.done[key] for key in fixed):
            raise SystemExit(
                f"{self.checkpoint} belongs to a run with another seed or length. "
                "Use another folder."
            )
        self.eye.load_state_dict(saved["eye"])
        self.heads.load_state_dict(saved["heads"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.done = saved["done"]

    def save(self) -> None:
        """Write the checkpoint, all of it or nothing."""
        state = {
            "eye": self.eye.state_dict(),
            "shape": asdict(self.shape),
            "heads": self.heads.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "done": self.done,
        }
        half_written = self.checkpoint.with_suffix(".new")
        self.torch.save(state, half_written)
        half_written.replace(self.checkpoint)

    def step(self) -> dict[str, float]:
        """Learn from the next pictures and return the mean losses."""
        wall, cpu = time.perf_counter(), time.process_time()
        number = self.done["steps"]
        telling = number >= self.done["seeing"]
        count = PICTURES_TO_SEE if telling else PICTURES
        learn: Callable[[Random, int], tuple[dict[str, float], Any]] = (
            self._tell if telling else self._see
        )
        chances = [Random(f"step {self.done['seed']} {number} {i}") for i in range(THREADS)]
        parts = list(self.pool.map(learn, chances, [count // THREADS] * THREADS))
        for position, weight in enumerate(self.weights):
            found = [gradients[position] for _, gradients in parts]
            weight.grad = self._mean(weight, found)
        rate = rate_at(number, self.steps)
        self.muon.param_groups[0]["lr"] = MATRIX_RATE * rate
        self.adam.param_groups[0]["lr"] = OTHER_RATE * rate
        self.muon.step()
        self.adam.step()
        self.done["steps"] += 1
        self.done["pictures"] += count
        self.done["wall_s"] += time.perf_counter() - wall
        self.done["cpu_s"] += time.process_time() - cpu
        return {name: sum(losses[name] for losses, _ in parts) / len(parts) for name in parts[0][0]}

    def _mean(self, weight: Any, found: list[Any]) -> Any:
        there = [gradient for gradient in found if gradient is not None]
        return sum(there) / len(found) if there else self.torch.zeros_like(weight)

    def _drawn(self, rng: Random, count: int) -> tuple[list[figures.Drawing], Any]:
        drawn = [figures.drawing(rng) for _ in range(count)]
        pixels = np.stack([figures.as_seen(rng, one) for one in drawn])
        return drawn, self.torch.from_numpy(pixels)

    def _named(self, seen: Any, drawn: list[figures.Drawing]) -> tuple[Any, float]:
        """Return the two heads' loss and the share of drawings that they name rightly."""
        torch, shapes, colours = self.torch, list(figures.SHAPES), list(figures.COLOURS)
        scores, patches = self.heads(seen).flatten(0, 1), seen.shape[1]
        loss: Any = 0.0
        right = torch.ones(len(drawn), dtype=torch.bool)
        for part, names, told in (
            (scores[:, : len(shapes)], shapes, [one.figure.shape for one in drawn]),
            (scores[:, len(shapes) :], colours, [one.figure.colour for one in drawn]),
        ):
            wanted = torch.tensor([names.index(name) for name in told])
            each = wanted.repeat_interleave(patches)
            loss = loss + torch.nn.functional.cross_entropy(part, each)
            together = part.detach().unflatten(0, (-1, patches)).mean(dim=1)
            right &= together.argmax(dim=1) == wanted
        return loss, float(right.float().mean())

    def _see(self, rng: Random, count: int) -> tuple[dict[str, float], Any]:
        drawn, pixels = self._drawn(rng, count)
        loss, right = self._named(self.eye.see(pixels), drawn)
        gradients = self.torch.autograd.grad(loss, self.weights, allow_unused=True)
        return {"seeing": float(loss.detach()), "seen": right}, gradients

    def _tell(self, rng: Random, count: int) -> tuple[dict[str, float], Any]:
        torch = self.torch
        drawn, pixels = self._drawn(rng, count)
        seen = self.eye.see(pixels)
        seeing, right = self._named(seen, drawn)
        alone = self.done["steps"] < self.done["seeing"] + PROJECTOR_ALONE
        asked = drawn[: count * PICTURES_TO_TELL // PICTURES_TO_SEE]
        image = self.eye.tell((seen.detach() if alone else seen)[: len(asked)])
        rows = sorted(
            ((i, *self._row(questions.look(rng, one.figure))) for i, one in enumerate(asked)),
            key=lambda row: len(row[1]),
        )
        half = len(rows) * 3 // 4  # so that a few long conversations do not pad all the others
        loss: Any = 0.0
        total = hits = 0.0
        for group in (rows[:half], rows[half:]):
            tokens, weights = self._batch(group)
            x = self.speaker.embed(tokens.clamp(min=0))
            order = [i for i, _, _ in group]
            x[tokens == PICTURE] = image[order].flatten(0, 1)
            counts = weights > 0
            scores = self.speaker.scores(x[:, :-1], counts)
            targets = tokens[:, 1:][counts]
            each = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
            loss = loss + each @ weights[counts]
            total += float(weights.sum())
            hits += float((scores.argmax(dim=1) == targets).float() @ weights[counts])
        telling = loss / total
        gradients = torch.autograd.grad(telling + SEEING_SHARE * seeing, self.weights)
        return {
            "telling": float(telling.detach()), "told": hits / total,
            "seeing": float(seeing.detach()), "seen": right,
        }, gradients  # fmt: skip

    def _row(self, asked: questions.Look) -> tuple[list[int], list[float]]:
        """Return the tokens of a conversation and how much each counts."""
        from gguf_widgets.demo import batches

        left, right = (self.speaker.tokens(text) for text in questions.before_and_after(asked))
        ids = [*left, *[PICTURE] * self.shape.tokens, *right]
        weights = batches.answer_weights(ids, self.start, self.end, self.assistant)
        weights[: len(left)] = [0.0] * len(left)
        return ids, weights

    def _batch(self, group: list[Any]) -> tuple[Any, Any]:
        width = max(len(ids) for _, ids, _ in group)
        tokens = self.torch.zeros((len(group), width), dtype=self.torch.long)
        weights = self.torch.zeros((len(group), width))
        for i, (_, ids, counts) in enumerate(group):
            tokens[i, : len(ids)] = self.torch.tensor(ids)
            weights[i, : len(ids)] = self.torch.tensor(counts)
        return tokens, weights[:, 1:]


def _is_inner(name: str, weight: Any) -> bool:
    return weight.ndim == 2 and not name.startswith("position_embd")


def train(
    folder: Path,
    *,
    seed: int = 1,
    seeing: int = SEEING,
    telling: int = TELLING,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on training.

    Parameters
    ----------
    folder
        Where the checkpoint and the log are kept.
    seed
        Decides everything random.
    seeing, telling
        Length of the two parts, in steps.
    stop_after
        Stop after this many steps in this call (the run can be continued).

    Returns
    -------
    pathlib.Path
        The checkpoint.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        run = Run(folder, seed, seeing, telling, pool)
        size = sum(weight.numel() for weight in run.eye.parameters())
        print(f"{size:,} parameters; {run.done['steps']} of {run.steps} steps done", flush=True)
        last = run.steps if stop_after is None else min(run.steps, run.done["steps"] + stop_after)
        recent: list[dict[str, float]] = []
        while run.done["steps"] < last:
            recent.append(run.step())
            done = run.done
            if done["steps"] % 50 == 0:
                recent = [losses for losses in recent if losses.keys() == recent[-1].keys()]
                means = {
                    name: round(sum(one[name] for one in recent) / len(recent), 4)
                    for name in recent[-1]
                }
                recent = []
                with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps({**done, **means}) + "\n")
                print(
                    f"step {done['steps']}/{run.steps}  "
                    + "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
                    + f"  {done['wall_s'] / 60:.1f} min, {done['cpu_s'] / 60:.1f} min of processor "
                    "time",
                    flush=True,
                )
            if done["steps"] % CHECKPOINT_EVERY == 0 or done["steps"] == last:
                run.save()
    return run.checkpoint


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Train the demo model's eye from scratch.")
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("demo-vision-training"),
        help="where checkpoints go",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeing", type=int, default=SEEING, help="steps of the first part")
    parser.add_argument("--telling", type=int, default=TELLING, help="steps of the second part")
    parser.add_argument(
        "--stop-after", type=int, help="stop after this many steps; run again to go on"
    )
    told = parser.parse_args()
    checkpoint = train(
        told.folder,
        seed=told.seed,
        seeing=told.seeing,
        telling=told.telling,
        stop_after=told.stop_after,
    )
    print(
        f"The checkpoint is {checkpoint}. Write the projector file with:\n"
        f"python -m gguf_widgets.demo.vision.export {told.folder} demo-mmproj.gguf"
    )


if __name__ == "__main__":
    main()
