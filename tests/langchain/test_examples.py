"""The demo, the examples and the docstrings' examples run offline and show what went where."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import io
import runpy
import sys
from pathlib import Path

import pytest
from rich.console import Console

import langchain_archroute
from archroute import Policy, PolicySet
from langchain_archroute.demo import run

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = Path(langchain_archroute.__file__).parent
MODULES = [
    path.stem
    for path in sorted(PACKAGE.glob("*.py"))
    if path.stem != "decision_model" or importlib.util.find_spec("langchain_core.decisions")
]


def shown(capsys, example):
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out


def test_the_chain_example(capsys):
    said = shown(capsys, "lcel_chain.py")
    assert "Which flights go to Lisbon on Friday?\n  → the travel model" in said
    assert "from my income tax?\n  → the tax model" in said
    assert "chess championship of 1972?\n  → the general model" in said
    assert "streamed: t|h|e" in said


def test_the_agent_and_graph_example(capsys):
    agent, graph = shown(capsys, "langgraph_agent.py").split("A graph")
    assert "→ the travel model: LX 2084 at 09:10  (route travel)" in agent
    assert "→ the tax model: yes, within limits  (route tax)" in agent
    assert "→ the travel desk, turn 1" in graph
    assert "→ the tax desk, turn 2" in graph


@pytest.mark.parametrize(("failing", "end"), [("0.0", "rolled out"), ("0.5", "rolled back")])
def test_the_canary_example(capsys, monkeypatch, failing, end):
    monkeypatch.setattr(sys, "argv", ["canary.py", "--failing", failing])
    lines = shown(capsys, "canary.py").splitlines()
    assert lines[0].startswith("set   5%")
    assert lines[-2].startswith("set 100%  served 100%" if end == "rolled out" else "set   0%")
    assert lines[-1] == end


def test_the_demo_shows_who_answers_each_turn():
    policies = PolicySet(
        [Policy("tax", "Tax law and tax returns"), Policy("travel", "Planning trips, flights, hotels")]
    )
    conversation = [
        {"role": "user", "content": "Which flights [go] to Lisbon on Friday?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "How do I file my income tax return?"},
    ]
    out = io.StringIO()
    run(policies, conversation, Console(file=out, width=200))
    lines = out.getvalue().splitlines()
    assert lines[0] == "Which flights [go] to Lisbon on Friday?"
    assert lines[1].startswith("  → answered by travel  (travel ")
    assert lines[2] == "How do I file my income tax return?"
    assert len(lines) == 4


@pytest.mark.parametrize("name", MODULES)
def test_every_docstrings_example_is_right(name):
    module = importlib.import_module("langchain_archroute" if name == "__init__" else f"langchain_archroute.{name}")
    results = doctest.testmod(module)
    assert results.failed == 0
