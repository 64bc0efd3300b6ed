"""Decisions and records of turns for tests: a turn that was served at the first attempt, but for what a test changes."""

from __future__ import annotations

from typing import Any

from archroute.decision import Attempt, Decision
from archroute.observe import Observer, ShadowRecord, TurnRecord, Usage
from archroute.policy import Policy

STARTED = 1_700_000_000.0  # seconds since the epoch


class Records(Observer):
    """Keeps the records of turns and of shadows."""

    def __init__(self) -> None:
        self.turns: list[TurnRecord] = []
        self.shadows: list[ShadowRecord] = []

    def turn_began(self) -> str:
        return "began"

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        assert began == "began"
        self.turns.append(record)

    def shadow_ended(self, record: ShadowRecord) -> None:
        self.shadows.append(record)

    def attempts(self) -> list[tuple[str, str]]:
        """Of the last turn, in order."""
        return [(attempt.target, attempt.outcome) for attempt in self.turns[-1].decision.attempts]


def a_decision(*attempts: Attempt, **changed: Any) -> Decision:
    """For the route `tax`, made within 20 ms."""
    given = {
        "route": "tax",
        "policy": Policy("tax", "Tax law and returns"),
        "probabilities": {"tax": 0.75, "travel": 0.25, "other": 0.0},
        "confidence": 0.75,
        "margin": 0.5,
        "coverage": 1.0,
        "reason": "matched",
        "model": "embedded",
        "latency_ms": 20.0,
        "prompt_tokens": 40,
        "truncated": False,
        "attempts": attempts,
    }
    return Decision(**given | changed)


def a_turn(*attempts: Attempt, decision: Decision | None = None, **changed: Any) -> TurnRecord:
    """Of 500 ms; served by `big` if no other attempts are given."""
    attempts = attempts or (Attempt(target="big", outcome="served", latency_ms=400.0),)
    given = {
        "id": "turn-1",
        "started": STARTED,
        "session": None,
        "route": "tax",
        "rule": "matched",
        "target": attempts[-1].target if attempts[-1].outcome == "served" else None,
        "outcome": attempts[-1].outcome,
        "cause": attempts[-1].cause,
        "decision": decision or a_decision(*attempts),
        "latency_ms": 500.0,
        "usage": None,
        "cost": None,
        "counterfactual": (),
        "text": None,
    }
    return TurnRecord(**given | changed)


def a_shadow(**changed: Any) -> ShadowRecord:
    """Of the turn above, 250 ms, served."""
    given = {
        "turn": "turn-1",
        "started": STARTED,
        "route": "tax",
        "target": "new",
        "outcome": "served",
        "cause": None,
        "latency_ms": 250.0,
        "usage": Usage(input_tokens=100, output_tokens=10),
        "cost": 0.5,
    }
    return ShadowRecord(**given | changed)
