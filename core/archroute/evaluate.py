"""Measuring a router on cases with known answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from archroute.conversation import Conversation, History
from archroute.engines.base import Engine
from archroute.errors import ArchRouteError, FileFormatError
from archroute.policy import OTHER, Policy, PolicySet
from archroute.router import Router


@dataclass(frozen=True)
class Case:
    """One conversation, the policies on offer, and the right answer.

    Attributes:
        answer: A policy's name, or `other`.
        kind: What the case tests; results are told by kind.
    """

    policies: PolicySet
    conversation: Conversation
    answer: str
    kind: str


class _Message(BaseModel):
    role: str
    content: str | list[Any] | None = None


class _Policy(BaseModel):
    name: str
    description: str


class _Line(BaseModel):
    policies: list[_Policy]
    conversation: list[_Message]
    answer: str
    kind: str = "all"


def read_cases(file: Path) -> list[Case]:
    """Read a cases file: JSON lines with `policies`, `conversation`, `answer` and, if wanted, `kind`.

    Raises:
        FileFormatError: It can't be read; the message names the line and the field.
    """
    cases = [_case(number, line, file) for number, line in _lines(file)]
    if not cases:
        raise FileFormatError(
            f"{file} has no cases", hint='a case is {"policies": […], "conversation": […], "answer": …}'
        )
    return cases


def evaluate(
    cases: Iterable[Case], engine: Engine, *, history: History = "all", advance: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Route every case and count what is right.

    Args:
        cases: What to route.
        engine: What decides.
        history: How much of the conversation is read.
        advance: Called after each case.

    Returns:
        `total` and, by kind, `kinds`: each `n`, `correct` and `accuracy` from 0 to 1; `model`; and `ms_per_decision`, the mean.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    spent = 0.0
    for case in cases:
        decision = Router(case.policies, model=engine, history=history).route(case.conversation)
        right[case.kind].append(decision.route == case.answer)
        spent += decision.latency_ms
        if advance:
            advance()
    total = [correct for results in right.values() for correct in results]
    return {
        "total": _counted(total),
        "kinds": {kind: _counted(results) for kind, results in sorted(right.items())},
        "model": engine.name,
        "ms_per_decision": spent / max(len(total), 1),
    }


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{file}: can't be read: {error}", hint="check the path") from error
    # Not splitlines(): JSON strings may hold other line separators as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _case(number: int, line: str, file: Path) -> Case:
    where = f"{file}, line {number}"
    try:
        parsed = _Line.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{where}: no valid JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(the whole)"
        raise FileFormatError(f"{where}, field {field}: {first['msg']}") from error
    with _at(f"{where}, field policies"):
        policies = PolicySet(Policy(policy.name, policy.description) for policy in parsed.policies)
    with _at(f"{where}, field conversation"):
        conversation = Conversation.from_messages(message.model_dump() for message in parsed.conversation).window("all")
    if parsed.answer not in (OTHER, *(route.name for route in policies)):
        raise FileFormatError(f"{where}, field answer: {parsed.answer!r} is neither a policy of the case nor {OTHER!r}")
    return Case(policies, conversation, parsed.answer, parsed.kind)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Say of an error where in the file its cause stands."""
    try:
        yield
    except ArchRouteError as error:
        raise FileFormatError(f"{where}: {error.message}", hint=error.hint) from error


def _counted(results: list[bool]) -> dict[str, float]:
    correct = sum(results)
    return {"n": len(results), "correct": correct, "accuracy": correct / len(results) if results else 0.0}
