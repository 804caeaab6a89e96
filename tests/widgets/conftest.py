"""Fixtures for the widgets: those of batch runs, and tables on a page that is played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.batch_page import Page
from support.comparison_page import ComparisonPage

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets.batch_table import BatchTable
from gguf_widgets.widgets.comparison_view import ComparisonView
from tests.batch.conftest import manager, model, store

__all__ = ["manager", "model", "open_batch", "open_view", "store"]


@pytest.fixture
def open_batch(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Page]]:
    """Open batch tables, each with its page; they end with the test, and so do their runs."""
    widgets: list[BatchTable] = []

    def open_one(*arguments: Any, **more: Any) -> Page:
        widget = BatchTable(*arguments, store=store, manager=manager, **more)
        widgets.append(widget)
        return Page(widget, monkeypatch)

    yield open_one
    for widget in widgets:
        if widget.run is not None:
            widget.run.stop()
        widget.close()


@pytest.fixture
def open_view(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ComparisonPage]]:
    """Open views, each with its page; they end with the test."""
    views: list[ComparisonView] = []

    def open_one(*arguments: Any, **more: Any) -> ComparisonPage:
        view = ComparisonView(*arguments, store=store, manager=manager, **more)
        views.append(view)
        return ComparisonPage(view, monkeypatch)

    yield open_one
    for view in views:
        view.close()
