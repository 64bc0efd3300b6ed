"""The demonstration and the example run offline and say what went where."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import pytest
from rich.console import Console

from archroute import Domain, Policy, PolicySet
from llamaindex_archroute.demo import run

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_demo_prints_where_each_user_turn_went() -> None:
    console = Console(file=io.StringIO(), width=200)
    policies = PolicySet(
        [
            Policy("tax", "Tax law and returns"),
            Domain("travel", "Planning trips", [Policy("flights", "Finding and booking flights")]),
        ]
    )
    conversation = [
        {"role": "user", "content": "How do I file my tax return [2025]?"},
        {"role": "assistant", "content": "By July."},
        {"role": "user", "content": "Find me a flight to Lisbon on Friday"},
    ]
    run(policies, conversation, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "How do I file my tax return [2025]?" in printed
    assert "answered by tax" in printed
    assert "answered by flights" in printed
    assert "By July." not in printed


def test_the_query_router_example(capsys: pytest.CaptureFixture[str], offline: Path) -> None:
    runpy.run_path(str(EXAMPLES / "llamaindex_query_router.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "→ travel" in printed
    assert "→ tax" in printed
