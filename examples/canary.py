"""A new model takes over one policy's traffic, from 5% to 100%, watched at every step. Runs offline.

    python examples/canary.py [--failing 0.3] [--plot canary.png]

Users keep their side of the split while the share grows; a turn that the new model fails on is answered by the old one. Every step is
judged by its records: if the new model fails too often it gets nothing from then on. The chat models stand for real ones.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from archroute.dispatch import Dispatch
from archroute.observe import JsonlObserver, TurnRecord
from langchain_archroute import RunnableRouter

POLICIES = """
policies:
  - name: code
    description: Writing, explaining and fixing code
    models: {old: 0.95, new: 0.05}
default: old
"""
STEPS = [0.05, 0.25, 0.5, 1.0]
USERS = 100
MOST_FAILURES = 0.1
QUESTION = "Write a Python function that reverses a list"


@dataclass
class Step:
    """What the records of one step say: the new model's share, as set and as served, and how often it failed."""

    share: float
    served: float
    failures: float


def main() -> None:
    """Roll the new model out, or back, and show how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failing", type=float, default=0.02, help="how often the new model fails (0.02)")
    parser.add_argument("--plot", type=Path, help="write a picture (needs matplotlib)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        steps = roll_out(new_model(arguments.failing), Path(directory) / "turns.jsonl")
    for step in steps:
        bar = "█" * round(40 * step.served)
        print(f"set {step.share:4.0%}  served {step.served:4.0%} {bar:40}  failed {step.failures:4.0%}")
    print("rolled out" if steps[-1].share == 1 else "rolled back")
    if arguments.plot:
        plot(steps, arguments.plot)


def new_model(failing: float) -> Any:
    """A model that fails now and then."""
    answers, draw = FakeListChatModel(responses=["the new model's answer"]), random.Random(3)  # noqa: S311

    def answer(messages: Any) -> Any:
        if draw.random() < failing:
            raise ConnectionError("the new provider is overloaded")
        return answers.invoke(messages)

    return RunnableLambda(answer)


def roll_out(new: Any, log: Path) -> list[Step]:
    """Serve a round of turns at every share, and go on only while the new model does well."""
    router = RunnableRouter.from_yaml(
        POLICIES,
        targets={"old": FakeListChatModel(responses=["the old model's answer"]), "new": new},
        model="embedded",
        dispatch=Dispatch(observers=[JsonlObserver(log)]),
    )
    steps = []
    for share in STEPS:
        router.change_shares("code", {"old": 1 - share, "new": share})
        seen = len(read(log))
        for user in range(USERS):
            router.invoke(QUESTION, {"configurable": {"thread_id": f"user-{user}"}})
        steps.append(judged(share, read(log)[seen:]))
        if steps[-1].failures > MOST_FAILURES:
            router.change_shares("code", {"old": 1.0})
            steps.append(Step(0.0, 0.0, 0.0))
            break
    return steps


def read(log: Path) -> list[TurnRecord]:
    """The records so far."""
    return [TurnRecord.model_validate_json(line) for line in log.read_text(encoding="utf-8").splitlines()]


def judged(share: float, records: list[TurnRecord]) -> Step:
    """What the records of a step say of the new model."""
    outcomes = Counter(a.outcome for record in records for a in record.decision.attempts if a.target == "new")
    failures = outcomes["failed"] / max(outcomes.total(), 1)
    return Step(share, sum(record.target == "new" for record in records) / len(records), failures)


def plot(steps: list[Step], file: Path) -> None:
    """Draw the shares, as set and as served, and the failures."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3.5), layout="constrained")).subplots()
    numbers = range(1, len(steps) + 1)
    axes.step(numbers, [100 * step.share for step in steps], where="mid", label="share of the new model, as set")
    axes.bar(numbers, [100 * step.served for step in steps], width=0.4, alpha=0.5, label="… as served")
    axes.plot(numbers, [100 * step.failures for step in steps], "r.--", label="its failures")
    axes.set(xlabel="step", ylabel="%", xticks=list(numbers), ylim=(0, 105))
    axes.legend(loc="upper left")
    figure.savefig(file)


if __name__ == "__main__":
    main()
