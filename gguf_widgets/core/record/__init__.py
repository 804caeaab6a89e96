"""What results depend on, noted so that they can be repeated and a difference be explained.

`program` says what ran and on what, `model_file` which model and how it was loaded, `differences`
names what is not the same in two such notes. Chat answers (`core.chat.record`) and experiments
(`gguf_widgets.experiments`) are recorded with these.
"""
