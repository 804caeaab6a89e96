"""The thread that encodes images: in which order, and what is kept of them."""

from __future__ import annotations

import threading

from support.tiny_projector import picture

from gguf_widgets.core.engine.image_reader import ImageReader
from gguf_widgets.core.engine.scripted_vision import ScriptedVision
from gguf_widgets.core.images import Image


def test_what_is_kept_of_encoded_images_is_bounded_and_the_latest() -> None:
    vision = ScriptedVision(64)
    images = [Image(picture(seed, 80, 20)) for seed in range(6)]
    size = sum(part.num_bytes for part in vision.encode(images[0], lambda _: True))
    vision.encoded.clear()
    reader = ImageReader(vision, max_kept_bytes=3 * size)

    def read(image: Image) -> None:
        reading = reader.ask(image, is_batch=False)
        while reading.parts is None:
            reader.wait(1.0)
            reader.collect()
        assert len(reading.parts[0].vectors) == 10
        reader.collect()
        reader.let_go(reading)

    for number in (0, 1, 2, 0, 3, 0, 4):
        read(images[number])
    assert [images.index(one) for one in vision.encoded] == [0, 1, 2, 3, 4]
    assert reader._num_kept_bytes == 3 * size
    read(images[0])
    read(images[3])
    read(images[4])
    assert len(vision.encoded) == 5
    read(images[2])  # this one had to leave
    assert len(vision.encoded) == 6
    none = ImageReader(ScriptedVision(64), max_kept_bytes=0)
    reading = none.ask(images[0], is_batch=True)
    while reading.parts is None:
        none.wait(1.0)
    none.collect()
    assert none._num_kept_bytes == 0
    none.close()
    reader.close()


def test_those_that_somebody_waits_for_are_read_first() -> None:
    vision = ScriptedVision(64, encode_s=0.05)
    images = [Image(picture(seed, 80, 20)) for seed in range(5)]
    reader = ImageReader(vision)
    readings = [reader.ask(image, is_batch=number != 4) for number, image in enumerate(images)]
    reader.let_go(readings[2])  # and one is not wanted any more
    while any(readings[number].parts is None for number in (0, 1, 3, 4)):
        reader.wait(1.0)
    assert [images.index(one) for one in vision.encoded][:2] in ([0, 4], [4, 0])
    assert sorted(images.index(one) for one in vision.encoded) == [0, 1, 3, 4]
    reader.close()
    assert not [t for t in threading.enumerate() if t.name == "gguf-widgets-images"]
