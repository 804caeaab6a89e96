"""The thread that encodes images: in which order, and what is kept of them."""

from __future__ import annotations

import threading

from support.tiny_projector import picture

from gguf_widgets.core.engine.image_reader import ImageReader
from gguf_widgets.core.engine.scripted_vision import ScriptedVision
from gguf_widgets.core.errors import RequestCancelledError
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


def test_one_that_stops_by_itself_leaves_nobody_waiting() -> None:
    def stop(_: Image) -> None:
        raise RequestCancelledError("It stopped.")

    reader = ImageReader(ScriptedVision(64, fault=stop))
    reading = reader.ask(Image(picture(1, 80, 20)), is_batch=False)
    for _ in range(100):
        reader.wait(0.1)
        reader.collect()
        if reading.error is not None:
            break
    assert isinstance(reading.error, RequestCancelledError)
    reader.close()


def test_one_of_a_table_that_somebody_waits_for_as_well_is_read_first() -> None:
    going_on, started = threading.Event(), threading.Event()

    def wait(_: Image) -> None:
        started.set()
        assert going_on.wait(10)

    vision = ScriptedVision(64, fault=wait)
    images = [Image(picture(seed, 80, 20)) for seed in range(5)]
    reader = ImageReader(vision)
    readings = [reader.ask(image, is_batch=True) for image in images[:4]]
    assert started.wait(10)
    assert reader.ask(images[3], is_batch=False) is readings[3]
    # What is not wanted any more is not held until its turn comes.
    unwanted = reader.ask(images[4], is_batch=True)
    reader.let_go(unwanted)
    assert all(one is not unwanted for *_, one in reader._queue)
    going_on.set()
    while any(reading.parts is None for reading in readings):
        reader.wait(1.0)
    assert [images.index(one) for one in vision.encoded] == [0, 3, 1, 2]
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
