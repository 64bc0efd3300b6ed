"""Recorders on LlamaIndex's root dispatcher."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from llama_index_instrumentation import get_dispatcher

from tests.llamaindex.recording import Events, Spans


@pytest.fixture
def events() -> Generator[Events]:
    handlers = get_dispatcher().event_handlers
    handlers.append(handler := Events())
    yield handler
    handlers.remove(handler)


@pytest.fixture
def spans() -> Generator[Spans]:
    handlers = get_dispatcher().span_handlers
    handlers.append(handler := Spans())
    yield handler
    handlers.remove(handler)
