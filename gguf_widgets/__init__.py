"""Run GGUF language models on your own machine, from Jupyter.

Promises: the names below are the public face, each imported when it is first used, so that
``import gguf_widgets`` costs next to nothing. Leaves to others: everything they do.

Examples
--------
>>> import gguf_widgets as gw
>>> model = gw.load("demo")
>>> model.chat("Hello", temperature=0).text  # doctest: +SKIP
'Hello! ...'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_widgets import compare, experiments
    from gguf_widgets.batch.processor import BatchProcessor, resume, runs
    from gguf_widgets.batch.run import BatchRun
    from gguf_widgets.compare.comparison import Comparison
    from gguf_widgets.compare.making import comparisons, resume_comparison
    from gguf_widgets.core import care, download, errors
    from gguf_widgets.core.bench import bench, bench_history
    from gguf_widgets.core.chat.interface import ChatInterface
    from gguf_widgets.core.gguf import read_header
    from gguf_widgets.core.images import Image, image
    from gguf_widgets.core.library import (
        add_file,
        add_folder,
        models,
        remove_file,
        remove_folder,
    )
    from gguf_widgets.core.manager import ModelManager, load
    from gguf_widgets.core.model import Model
    from gguf_widgets.core.monitor.monitor import PerformanceMonitor
    from gguf_widgets.core.scores.divergence import divergence
    from gguf_widgets.core.scores.kl_divergence import kl_divergence
    from gguf_widgets.core.scores.perplexity import perplexity
    from gguf_widgets.core.tools import Tool, ToolBox, tool
    from gguf_widgets.core.types import FinishReason, ModelInfo, Reply, SamplingSettings
    from gguf_widgets.core.workers import workers
    from gguf_widgets.dashboard.dashboard import Dashboard
    from gguf_widgets.experiments.experiment import Experiment, load_experiment
    from gguf_widgets.widgets.batch_table import BatchTable
    from gguf_widgets.widgets.chat_box import ChatBox
    from gguf_widgets.widgets.comparison_view import ComparisonView
    from gguf_widgets.widgets.live_charts import LiveCharts
    from gguf_widgets.widgets.model_downloader import ModelDownloader
    from gguf_widgets.widgets.model_picker import ModelPicker
    from gguf_widgets.widgets.model_uploader import ModelUploader

__version__ = "0.1.0"

# Where each public name lives. A test holds this table, `__all__` and the imports above together.
_HOMES = {
    "BatchProcessor": "gguf_widgets.batch.processor",
    "BatchRun": "gguf_widgets.batch.run",
    "BatchTable": "gguf_widgets.widgets.batch_table",
    "ChatBox": "gguf_widgets.widgets.chat_box",
    "ChatInterface": "gguf_widgets.core.chat.interface",
    "Comparison": "gguf_widgets.compare.comparison",
    "ComparisonView": "gguf_widgets.widgets.comparison_view",
    "Dashboard": "gguf_widgets.dashboard.dashboard",
    "Experiment": "gguf_widgets.experiments.experiment",
    "FinishReason": "gguf_widgets.core.types",
    "Image": "gguf_widgets.core.images",
    "LiveCharts": "gguf_widgets.widgets.live_charts",
    "Model": "gguf_widgets.core.model",
    "ModelDownloader": "gguf_widgets.widgets.model_downloader",
    "ModelInfo": "gguf_widgets.core.types",
    "ModelManager": "gguf_widgets.core.manager",
    "ModelPicker": "gguf_widgets.widgets.model_picker",
    "ModelUploader": "gguf_widgets.widgets.model_uploader",
    "PerformanceMonitor": "gguf_widgets.core.monitor.monitor",
    "Reply": "gguf_widgets.core.types",
    "SamplingSettings": "gguf_widgets.core.types",
    "Tool": "gguf_widgets.core.tools",
    "ToolBox": "gguf_widgets.core.tools",
    "add_file": "gguf_widgets.core.library",
    "add_folder": "gguf_widgets.core.library",
    "bench": "gguf_widgets.core.bench",
    "bench_history": "gguf_widgets.core.bench",
    "care": "gguf_widgets.core.care",
    "compare": "gguf_widgets.compare",
    "comparisons": "gguf_widgets.compare.making",
    "divergence": "gguf_widgets.core.scores.divergence",
    "download": "gguf_widgets.core.download",
    "errors": "gguf_widgets.core.errors",
    "experiments": "gguf_widgets.experiments",
    "image": "gguf_widgets.core.images",
    "kl_divergence": "gguf_widgets.core.scores.kl_divergence",
    "load": "gguf_widgets.core.manager",
    "load_experiment": "gguf_widgets.experiments.experiment",
    "models": "gguf_widgets.core.library",
    "perplexity": "gguf_widgets.core.scores.perplexity",
    "read_header": "gguf_widgets.core.gguf",
    "remove_file": "gguf_widgets.core.library",
    "remove_folder": "gguf_widgets.core.library",
    "resume": "gguf_widgets.batch.processor",
    "resume_comparison": "gguf_widgets.compare.making",
    "runs": "gguf_widgets.batch.processor",
    "tool": "gguf_widgets.core.tools",
    "workers": "gguf_widgets.core.workers",
}

# What a name needs of a higher layer, imported with it: exports of a conversation render Markdown.
_BESIDE = {
    "ChatInterface": "gguf_widgets.widgets._chat_notebook",
    "Comparison": "gguf_widgets.widgets._compare_figures",
    "ComparisonView": "gguf_widgets.widgets._compare_figures",
    "PerformanceMonitor": "gguf_widgets.widgets._monitor_figures",
    "bench": "gguf_widgets.widgets._bench_figures",
    "bench_history": "gguf_widgets.widgets._bench_figures",
    "compare": "gguf_widgets.widgets._compare_figures",
    "comparisons": "gguf_widgets.widgets._compare_figures",
    "resume_comparison": "gguf_widgets.widgets._compare_figures",
}

# These names are modules: gw.care.rename(...), gw.download.search(...), gw.errors.StoreError.
_MODULES = ("care", "compare", "download", "errors", "experiments")

__all__ = [
    "BatchProcessor",
    "BatchRun",
    "BatchTable",
    "ChatBox",
    "ChatInterface",
    "Comparison",
    "ComparisonView",
    "Dashboard",
    "Experiment",
    "FinishReason",
    "Image",
    "LiveCharts",
    "Model",
    "ModelDownloader",
    "ModelInfo",
    "ModelManager",
    "ModelPicker",
    "ModelUploader",
    "PerformanceMonitor",
    "Reply",
    "SamplingSettings",
    "Tool",
    "ToolBox",
    "add_file",
    "add_folder",
    "bench",
    "bench_history",
    "care",
    "compare",
    "comparisons",
    "divergence",
    "download",
    "errors",
    "experiments",
    "image",
    "kl_divergence",
    "load",
    "load_experiment",
    "models",
    "perplexity",
    "read_header",
    "remove_file",
    "remove_folder",
    "resume",
    "resume_comparison",
    "runs",
    "tool",
    "workers",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    if name in _BESIDE:
        importlib.import_module(_BESIDE[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
