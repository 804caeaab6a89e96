"""An eye for the demo model: a tiny vision encoder and projector, trained on drawn figures.

Promises: importing this needs nothing but the standard library. The language model is not changed
by any of it.

Leaves to others: loading it (`gguf_widgets.demo.demo_projector_path` says where the file is).
Drawing needs numpy; training, exporting and measuring are commands of their own
(``python -m gguf_widgets.demo.vision.train``, ``.export``, ``.evaluate``). The model card is
README.md in the folder above.
"""
