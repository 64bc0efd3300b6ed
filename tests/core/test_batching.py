"""Concurrent async decisions: joined, bounded, cancelled and failing one by one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from archroute import Batching, Conversation, EngineError, OverloadedError, Policy, Router, SettingError
from archroute.engines.arch_router import ArchRouterEngine
from archroute.engines.base import Engine, Scores
from archroute.evaluate import read_cases

POLICIES = [Policy("travel", "Planning trips"), Policy("tax", "Tax law and returns")]


class Gate(Engine):
    """Decides once it is opened; fails on conversations that say so."""

    name = "gate"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls: list[list[str]] = []

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        texts = [conversation.turns[-1].content for conversation in conversations]
        self.calls.append(texts)
        assert self.open.wait(10)
        if "poison" in texts:
            raise EngineError("poisoned")
        return [Scores({"travel": 0.8, "tax": 0.1, "other": 0.1}, 1.0, 3, False) for _ in texts]


async def started(router: Router, *texts: str) -> list[asyncio.Task]:
    """Tasks that wait behind a first one, which the engine is held on."""
    tasks = [asyncio.create_task(router.aroute("first"))]
    while not router.engine.calls:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    tasks += [asyncio.create_task(router.aroute(text)) for text in texts]
    await asyncio.sleep(0.05)
    return tasks


async def test_calls_that_wait_together_are_one_call_of_the_engine():
    engine = Gate()
    tasks = await started(Router(POLICIES, model=engine), "a", "b", "c")
    engine.open.set()
    assert {decision.route for decision in await asyncio.gather(*tasks)} == {"travel"}
    assert engine.calls == [["first"], ["a", "b", "c"]]


async def test_no_call_joins_more_than_allowed():
    engine = Gate()
    tasks = await started(Router(POLICIES, model=engine, batching=Batching(max_size=2)), *"abcde")
    engine.open.set()
    await asyncio.gather(*tasks)
    assert max(len(call) for call in engine.calls) == 2
    assert sorted(text for call in engine.calls for text in call) == ["a", "b", "c", "d", "e", "first"]


async def test_one_failure_is_its_own():
    engine = Gate()
    tasks = await started(Router(POLICIES, model=engine), "a", "poison", "b")
    engine.open.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Decision", "Decision", "EngineError", "Decision"]


async def test_a_cancelled_call_is_not_decided_and_leaves_the_others():
    engine = Gate()
    tasks = await started(Router(POLICIES, model=engine), "a", "unwanted", "b")
    tasks[2].cancel()
    await asyncio.sleep(0.01)
    engine.open.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert engine.calls == [["first"], ["a", "b"]]


async def test_a_full_queue_is_an_error_or_the_default():
    for on_error in ("raise", "default"):
        engine = Gate()
        router = Router(POLICIES, model=engine, batching=Batching(max_queue=2), on_error=on_error)  # type: ignore[arg-type]
        tasks = await started(router, *"abcd")
        engine.open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        if on_error == "raise":
            refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
            assert len(refused) == 2
            assert refused[0].retryable
            assert "max_queue" in str(refused[0])
        else:
            assert [outcome.reason for outcome in outcomes].count("error") == 2


async def test_a_router_serves_again_after_it_was_idle():
    engine = Gate()
    engine.open.set()
    router = Router(POLICIES, model=engine)
    await router.aroute("one")
    while any(thread.name == "archroute" for thread in threading.enumerate()):
        await asyncio.sleep(0.05)
    assert (await router.aroute("two")).route == "travel"


def test_no_thread_is_left_when_the_interpreter_ends():
    program = """
import asyncio, atexit, threading
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # runs after what is registered later
from archroute import Policy, Router
from tests.engines import KeywordEngine
asyncio.run(Router([Policy("tax", "Tax law")], model=KeywordEngine({})).aroute("VAT?"))
print([thread.name for thread in threading.enumerate()])
"""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "core")])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == ["['MainThread', 'archroute']", "['MainThread']"]


async def test_the_loop_is_never_held_up_while_decisions_are_made(tiny_checkpoint: Path):
    """What holds the interpreter's lock for long does so every time; a busy machine's pauses come and go."""
    cases = read_cases(tiny_checkpoint / "heldout.jsonl")[:32]
    alone = Router(cases[0].policies, model=tiny_checkpoint)
    expected = [alone.route(case.conversation).route for case in cases]
    longest = []
    for _ in range(5):
        router = Router(cases[0].policies, model=ArchRouterEngine.from_directory(tiny_checkpoint))
        ticking = asyncio.create_task(longest_gap())
        decisions = await asyncio.gather(*(router.aroute(case.conversation) for case in cases))
        ticking.cancel()
        longest.append(await ticking)
        assert [decision.route for decision in decisions] == expected
        if longest[-1] < 0.05:
            return
    raise AssertionError(f"the event loop stood still for {min(longest):.3f} s")


async def longest_gap() -> float:
    """The longest time between two turns of the event loop, in seconds, until this is cancelled."""
    longest, before = 0.0, time.perf_counter()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    return max(longest, time.perf_counter() - before)


def test_impossible_batching_is_refused():
    for batching in ({"max_size": 0}, {"max_wait_ms": -1}, {"max_queue": 0}):
        with pytest.raises(SettingError):
            Batching(**batching)
