"""What a router does with a turn, whichever framework it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archroute.engines.base import Engine
from tests.engines import FailingEngine, KeywordEngine

WORDS = {"tax": ["vat"], "travel": ["trip"], "flights": ["flight"]}
FILE = """
policies:
  - {name: tax, description: Tax law and returns, model: tax-model}
  - name: travel
    description: Anything about trips
    model: travel-model
    actions:
      - {name: flights, description: Booking flights, model: flights-model}
default: default-model
"""
"""The policies of all behaviours, in the form that both frameworks load."""

Messages = Sequence[Mapping[str, Any]]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


@dataclass(frozen=True)
class Behaviour:
    """One line of the table.

    Attributes:
        name: What it shows.
        messages: The conversation.
        served: The model that must answer.
        route: The decision's route.
        reason: The decision's reason.
        settings: The router's arguments beside its policies.
        engine: The router's engine.
    """

    name: str
    messages: Messages
    served: str
    route: str
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine: type[Engine] | None = None

    def arguments(self) -> dict[str, Any]:
        """What the router is built with."""
        return {"model": self.engine() if self.engine else KeywordEngine(WORDS), **self.settings}


TABLE = [
    Behaviour("a policy that fits", [user("VAT?")], "tax-model", "tax", "matched"),
    Behaviour("none fits", [user("Hello")], "default-model", "other", "other"),
    Behaviour("an action of a domain", [user("A flight")], "flights-model", "flights", "matched"),
    Behaviour("a domain where no action fits", [user("A trip")], "travel-model", "travel", "matched"),
    Behaviour(
        "below the threshold", [user("VAT?")], "default-model", "other", "low_confidence", {"min_confidence": 0.99}
    ),
    Behaviour("above the threshold", [user("VAT?")], "tax-model", "tax", "matched", {"min_confidence": 0.5}),
    Behaviour(
        "an earlier turn, read",
        [user("VAT?"), assistant("20%"), user("Why?")],
        "tax-model",
        "tax",
        "matched",
    ),
    Behaviour(
        "an earlier turn, left out by the window",
        [user("VAT?"), assistant("20%"), user("Why?")],
        "default-model",
        "other",
        "other",
        {"history": "last_user"},
    ),
    Behaviour(
        "the last two turns",
        [user("A flight"), assistant("TP 1"), user("VAT?"), assistant("20%"), user("Why?")],
        "tax-model",
        "tax",
        "matched",
        {"history": 2},
    ),
    Behaviour(
        "a change of topic", [user("VAT?"), assistant("20%"), user("A flight")], "flights-model", "flights", "matched"
    ),
    Behaviour("the system's words", [system("You know VAT."), user("Hello")], "default-model", "other", "other"),
    Behaviour(
        "a message of several parts",
        [user([{"type": "text", "text": "Of this"}, {"type": "text", "text": "VAT?"}])],  # type: ignore[arg-type]
        "tax-model",
        "tax",
        "matched",
    ),
    Behaviour("no user message", [system("Be brief.")], "default-model", "other", "error"),
    Behaviour("an empty user message", [user("  ")], "default-model", "other", "error"),
    Behaviour("an engine that fails", [user("VAT?")], "default-model", "other", "error", engine=FailingEngine),
]
