"""What a router does with a turn, whichever framework it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archroute.engines.base import Engine
from archroute.errors import TargetTimeoutError
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

SURE = FILE.replace("model: tax-model", "model: tax-model, min_confidence: 0.99")
"""With a threshold of one route's own."""

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
        file: The policies.
    """

    name: str
    messages: Messages
    served: str
    route: str
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine: type[Engine] | None = None
    file: str = FILE

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
    Behaviour("below its own threshold", [user("VAT?")], "default-model", "other", "low_confidence", file=SURE),
    Behaviour("another's threshold", [user("A flight")], "flights-model", "flights", "matched", file=SURE),
    Behaviour(
        "too close to the next",
        [user("VAT on a trip")],
        "default-model",
        "other",
        "low_margin",
        {"min_margin": 0.1},
    ),
    Behaviour("far enough ahead", [user("VAT?")], "tax-model", "tax", "matched", {"min_margin": 0.5}),
    Behaviour(
        "no action is sure, but their domain is",
        [user("A flight on a trip")],
        "travel-model",
        "travel",
        "domain",
        {"min_confidence": 0.6},
    ),
    Behaviour(
        "no action is far enough ahead, but their domain is",
        [user("A flight on a trip")],
        "travel-model",
        "travel",
        "domain",
        {"min_margin": 0.1},
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


@dataclass(frozen=True)
class Serving:
    """How the targets of a route are tried.

    Attributes:
        name: What it shows.
        keys: What the policy file says of the route `tax`.
        attempts: The targets that are tried, and what becomes of each; the last one serves.
        raises: The error that the caller sees instead.
        times: The turn on which it shows.
    """

    name: str
    keys: str
    attempts: Sequence[tuple[str, str]] = ()
    raises: type[Exception] | None = None
    times: int = 1

    @property
    def file(self) -> str:
        """The policy file."""
        return FILE.replace("model: tax-model", self.keys) + "models:\n  short-model: {context: 1}\n"


A, B, SPARE, DEFAULT = (
    ("broken-a", "failed"),
    ("broken-b", "failed"),
    ("spare-model", "served"),
    ("default-model", "served"),
)

SERVINGS = [
    Serving("the first of several", "models: [tax-model, spare-model]", [("tax-model", "served")]),
    Serving("the first fails", "models: [broken-a, spare-model]", [A, SPARE]),
    Serving("fallbacks have a key of their own", "model: broken-a, fallbacks: [broken-b, spare-model]", [A, B, SPARE]),
    Serving("all fail: the default", "models: [broken-a, broken-b]", [A, B, DEFAULT]),
    Serving("all fail: the error", "models: [broken-a, broken-b], on_failure: raise", raises=ConnectionError),
    Serving("too slow", "models: [slow-model, spare-model], timeout: 0.05", [("slow-model", "timed_out"), SPARE]),
    Serving("too slow, and no other", "model: slow-model, timeout: 0.05, on_failure: raise", raises=TargetTimeoutError),
    Serving("too long for it", "models: [short-model, spare-model]", [("short-model", "passed_over"), SPARE]),
    Serving("a circuit is open", "models: [broken-a, spare-model]", [("broken-a", "passed_over"), SPARE], times=3),
    Serving("a split", "models: {tax-model: 0.0, spare-model: 1.0}", [SPARE]),
    Serving(
        "a split whose side fails", "models: {broken-a: 1.0, tax-model: 0.0}, fallbacks: [spare-model]", [A, SPARE]
    ),
    Serving("a shadow that fails", "model: spare-model, shadows: [broken-a]", [SPARE]),
]
