"""What the LangChain package adds to a call: everything but the engine, which is replaced by an instant one.

    python tests/benchmarks/langchain_overhead.py

Prints milliseconds a call through the router and of the bare target, medians of interleaved rounds, their difference and ratio; for an
agent, of one with the middleware and one without. The target is a fake chat model that answers at once.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import langchain_core
from instant import Instant
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from rich.console import Console
from rich.table import Table

from archroute.bench.machine import processor
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, Route, RunnableRouter

ROUNDS, CALLS, INPUTS = 30, 20, 8
ROUTES = 10
TALK = [(HumanMessage, AIMessage)[number % 2](f"turn {number} " + "word " * 50) for number in range(19)]


Call = Callable[[], Awaitable[object]]


def calls() -> dict[str, tuple[Call, Call, int]]:
    """What is measured: a call through the router, the same of the bare target, and the inputs of it."""
    target = FakeListChatModel(responses=["a b c"])
    arguments: dict[str, Any] = {
        "routes": [Route(f"route_{number}", f"Requests of kind {number}", target=target) for number in range(ROUTES)],
        "default": target,
        "model": Instant(),
    }
    router, model = RunnableRouter(**arguments), ArchRouterChatModel(**arguments)
    agents = create_agent(target, middleware=[ArchRouterMiddleware(**arguments)]), create_agent(target)
    traced = {"callbacks": [RunCollectorCallbackHandler()]}

    def both(routed: Runnable[Any, Any], call: Callable[[Any], object], inputs: int = 1) -> tuple[Call, Call, int]:
        return _awaitable(lambda: call(routed)), _awaitable(lambda: call(target)), inputs

    return {
        "RunnableRouter.invoke": both(router, lambda runnable: runnable.invoke(TALK)),
        "RunnableRouter.invoke, traced": both(router, lambda runnable: runnable.invoke(TALK, traced)),
        "RunnableRouter.ainvoke": (lambda: router.ainvoke(TALK), lambda: target.ainvoke(TALK), 1),
        "RunnableRouter.stream": both(router, lambda runnable: list(runnable.stream(TALK))),
        f"RunnableRouter.batch of {INPUTS}, an input": both(
            router, lambda runnable: runnable.batch([TALK] * INPUTS), INPUTS
        ),
        "ArchRouterChatModel.invoke": both(model, lambda runnable: runnable.invoke(TALK)),
        "ArchRouterChatModel.ainvoke": (lambda: model.ainvoke(TALK), lambda: target.ainvoke(TALK), 1),
        "ArchRouterMiddleware, an agent's turn": (
            _awaitable(lambda: agents[0].invoke({"messages": TALK})),
            _awaitable(lambda: agents[1].invoke({"messages": TALK})),
            1,
        ),
    }


def _awaitable(call: Callable[[], object]) -> Call:
    async def run() -> object:
        return call()

    return run


async def milliseconds(call: Call, inputs: int) -> float:
    """Of one input, averaged over a round."""
    start = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - start) * 1000 / (CALLS * inputs)


async def measure(rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Of every call, the milliseconds through the router and of the bare target."""
    measured = {}
    for name, (routed, bare, inputs) in calls().items():
        await routed()
        await bare()
        times = [(await milliseconds(routed, inputs), await milliseconds(bare, inputs)) for _ in range(rounds)]
        with_router, without = (statistics.median(column) for column in zip(*times, strict=True))
        measured[name] = (with_router, without)
    return measured


async def main() -> None:
    """Measure and print."""
    table = Table(
        "call", "routed, ms", "bare, ms", "added, ms", "ratio", title=f"{ROUTES} routes, {len(TALK)} messages"
    )
    for name, (routed, bare) in (await measure()).items():
        table.add_row(name, f"{routed:.3f}", f"{bare:.3f}", f"{routed - bare:.3f}", f"{routed / bare:.1f}")
    console = Console()
    console.print(f"{processor()}, Python {platform.python_version()}, langchain-core {langchain_core.__version__}")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
