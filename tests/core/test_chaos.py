"""Everything at once: threads, tasks, faults, and a policy file that changes all the time. No turn is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from archroute import Batching, Decision, PolicySet, Router
from archroute.dispatch import Dispatch, Request, RouteTable, bind
from archroute.observe import Observer, TurnRecord
from archroute.reload import Reloaded
from tests.engines import KeywordEngine
from tests.targets import ASK, STREAM, FakeTarget, serve

THREADS, TURNS_OF_A_THREAD = 8, 750
TASKS, TURNS_OF_A_TASK = 200, 20
FAULTS = 0.1

FILE = """
policies:
  - {{name: tax, description: Tax law, models: {{old: {old}, new: {new}}}, fallbacks: [spare], shadows: [shadow]}}
  - {{name: travel, description: Trips, model: old, on_failure: raise}}
default: spare
"""
BAD = ["policies: [", "policies: []\n", FILE.format(old=0.9, new=0.9), "policies:\n  - {name: tax}\n"]
QUESTIONS = ["What is VAT?", "A trip", "Hello"]


class Served(NamedTuple):
    table: RouteTable[FakeTarget]
    router: Router


class Records(Observer):
    """Counts the records by their outcome, and the files that served."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def turn_ended(self, record: TurnRecord, began: object) -> None:
        with self._lock:
            self.outcomes[record.outcome] += 1


def asked(number: int) -> tuple[str, Request]:
    text = QUESTIONS[number % 3]
    return text, Request(session=f"user-{number % 50}" if number % 2 else None, turn=text, in_loop=number % 7 == 0)


def write(file: Path, text: str) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


async def test_every_turn_ends_in_an_answer_or_in_the_error_its_policy_asks_for(tmp_path: Path) -> None:
    lock, draw = threading.Lock(), random.Random(7)

    def fault() -> bool:
        with lock:
            return draw.random() < FAULTS

    targets = {name: FakeTarget(name, fails=fault) for name in ("old", "new", "shadow")}
    targets["spare"] = FakeTarget("spare")  # never fails: an error can come only from the route that asks for it
    engine = KeywordEngine({"tax": ["vat"], "travel": ["trip"]})

    def build(policies: PolicySet) -> Served:
        table: RouteTable[FakeTarget] = RouteTable(*bind(policies, lambda name, _: targets[name], targets={}))
        return Served(table, Router(table.policies, model=engine, batching=Batching(max_queue=TASKS)))

    file = tmp_path / "policies.yaml"
    write(file, FILE.format(old=0.95, new=0.05))
    policies, records = Reloaded(file, build, every=0.005), Records()
    dispatch = Dispatch(breaker_failures=3, breaker_cooldown=0.01, switch_cost=0.1, observers=[records])
    ended: Counter[str] = Counter()
    tables: set[int] = set()
    done = threading.Event()

    def rewrite() -> None:
        for version in range(1, 10_000):
            share = version % 20 / 20
            write(file, FILE.format(old=1 - share, new=share) if version % 3 else BAD[version % 4])
            if done.wait(0.01):
                return

    def note(served: Served, end: str) -> None:
        with lock:
            ended[end] += 1
            tables.add(id(served.table))

    def thread(first: int) -> None:
        for number in range(first, first + TURNS_OF_A_THREAD):
            (text, request), served = asked(number), policies.current()

            def decide(earlier: Decision | None) -> Decision:
                return earlier or served.router.route(text)  # noqa: B023 - called at once

            turn = dispatch.begin(served.table, request, decide)
            try:
                answer = turn.run(ASK, ASK) if number % 2 else "".join(turn.stream(STREAM, ASK))
                note(served, "answer" if answer in targets else "nothing")
            except ConnectionError:
                note(served, f"error of {turn.decision.route}")

    async def task(first: int) -> None:
        for number in range(first, first + TURNS_OF_A_TASK):
            (text, request), served = asked(number), await policies.acurrent()

            async def decide(earlier: Decision | None) -> Decision:
                return earlier or await served.router.aroute(text)  # noqa: B023

            turn = await dispatch.abegin(served.table, request, decide)
            try:
                answer = await serve(turn, "astream" if number % 2 else "arun", shadow=True)
                note(served, "answer" if answer in targets else "nothing")
            except ConnectionError:
                note(served, f"error of {turn.decision.route}")

    writer = threading.Thread(target=rewrite)
    writer.start()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(THREADS) as pool:
        threads = [loop.run_in_executor(pool, thread, 10_000 * number) for number in range(THREADS)]
        await asyncio.gather(*threads, *(task(100 * number) for number in range(TASKS)))
    done.set()
    writer.join()

    total = THREADS * TURNS_OF_A_THREAD + TASKS * TURNS_OF_A_TASK
    assert total == 10_000
    assert ended.keys() == {"answer", "error of travel"}
    assert ended.total() == records.outcomes.total() == dispatch.stats()["turns"] == total
    assert records.outcomes == {"served": ended["answer"], "failed": ended["error of travel"]}
    assert ended["error of travel"] == pytest.approx(total / 3 * FAULTS, rel=0.5)
    assert len(tables) > 5  # the file was reloaded while turns were served
    for _ in range(500):  # shadows may end behind their turns
        if not any(thread.name == "archroute-shadow" for thread in threading.enumerate()):
            break
        time.sleep(0.01)
    write(file, FILE.format(old=0.5, new=0.5))
    last = policies.reload()
    assert (last.table.bound["tax"].target.shares.current, policies.error) == ({"old": 0.5, "new": 0.5}, None)
