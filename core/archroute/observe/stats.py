"""Counts and means over all turns so far."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archroute.observe.record import Observer, ShadowRecord, TurnRecord


@dataclass
class _Mean:
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Stats(Observer):
    """What `router.stats()` shows. Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = 0
        self._counted: dict[str, Counter[str]] = defaultdict(Counter)
        self._attempts: dict[str, Counter[str]] = defaultdict(Counter)
        self._shadows: dict[str, Counter[str]] = defaultdict(Counter)
        self._costs: dict[str, float] = defaultdict(float)
        self._shadow_costs: dict[str, float] = defaultdict(float)
        self._deciding = _Mean()
        self._latency: dict[str, _Mean] = defaultdict(_Mean)
        self._by_route: dict[tuple[str, str], _Mean] = defaultdict(_Mean)

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        """See `Observer`."""
        with self._lock:
            self._turns += 1
            for what in ("route", "rule", "outcome"):
                self._counted[what][getattr(record, what)] += 1
            if record.rule != "tool_loop":
                self._deciding.add(record.decision.latency_ms)
            for attempt in record.decision.attempts:
                self._attempts[attempt.target][attempt.outcome] += 1
            if record.target is not None:
                self._served(record.route, record.target, record.decision.attempts[-1].latency_ms)
                if record.cost is not None:
                    self._costs[record.target] += record.cost

    def shadow_ended(self, record: ShadowRecord) -> None:
        """See `Observer`."""
        with self._lock:
            self._shadows[record.target][record.outcome] += 1
            if record.outcome == "served":
                self._served(record.route, record.target, record.latency_ms)
            if record.cost is not None:
                self._shadow_costs[record.target] += record.cost

    def mean_latency(self, route: str, target: str) -> float | None:
        """How long a target took on a route so far, on average, in milliseconds; None if it never served there."""
        with self._lock:
            return self._by_route[route, target].value if (route, target) in self._by_route else None

    def snapshot(self) -> dict[str, Any]:
        """All numbers in plain types.

        `turns`; how many by `routes`, `rules` and `outcomes`; `targets` and `shadows`, with the outcomes of their attempts, their mean
        latency in milliseconds (of a stream, to its first piece) and their cost; `deciding_ms`, the mean time of a decision.
        """
        with self._lock:
            return {
                "turns": self._turns,
                "routes": dict(self._counted["route"]),
                "rules": dict(self._counted["rule"]),
                "outcomes": dict(self._counted["outcome"]),
                "targets": {name: self._of(name, counts, self._costs) for name, counts in self._attempts.items()},
                "shadows": {name: self._of(name, counts, self._shadow_costs) for name, counts in self._shadows.items()},
                "deciding_ms": self._deciding.value,
            }

    def _served(self, route: str, target: str, latency_ms: float) -> None:
        self._latency[target].add(latency_ms)
        self._by_route[route, target].add(latency_ms)

    def _of(self, name: str, outcomes: Counter[str], costs: Mapping[str, float]) -> dict[str, Any]:
        latency = self._latency[name].value if name in self._latency else None
        return {**outcomes, "latency_ms": latency, "cost": costs.get(name)}
