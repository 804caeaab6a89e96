"""The ipywidgets and anywidget components, one file each; no inference logic."""
