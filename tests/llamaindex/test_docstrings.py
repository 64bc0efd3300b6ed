"""Every example in the package's docstrings runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import llamaindex_archroute

MODULES = [
    "llamaindex_archroute",
    *(f"llamaindex_archroute.{m.name}" for m in pkgutil.iter_modules(llamaindex_archroute.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("public", llamaindex_archroute.__all__)
def test_every_public_class_has_an_example(public: str) -> None:
    assert ">>>" in (getattr(llamaindex_archroute, public).__doc__ or "")
