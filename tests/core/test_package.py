"""What the installed package is: light to import, typed, and without what it must not hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import archroute

HEAVY = {"torch", "transformers", "optimum", "langchain_core", "llama_index", "huggingface_hub", "langgraph"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {module.partition(".")[0] for module in done.stdout.split()}


def test_importing_the_core_loads_no_model_and_no_framework():
    assert not HEAVY & modules_after("import archroute")
    assert not HEAVY & modules_after("from archroute import Router, Policy; Policy('a', 'b')")


def test_the_embedded_model_needs_neither_transformers_nor_a_framework():
    statement = "from archroute import Router, Policy; Router([Policy('a', 'b')], model='embedded').route('x')"
    assert HEAVY & modules_after(statement) <= {"torch", "huggingface_hub"}


def test_packages_are_typed():
    root = Path(archroute.__file__).parent
    assert (root / "py.typed").is_file()
    for package in ("langchain_archroute", "llamaindex_archroute"):
        code = f"import {package}, pathlib; print((pathlib.Path({package}.__file__).parent / 'py.typed').is_file())"
        assert "True" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_frameworks_packages_do_not_import_each_other():
    assert "llama_index" not in modules_after("import langchain_archroute")
    assert not {"langchain_core", "langgraph"} & modules_after("import llamaindex_archroute")
