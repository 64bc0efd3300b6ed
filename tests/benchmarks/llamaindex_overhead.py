"""What the LlamaIndex package adds to a call: everything but the engine, which is replaced by an instant one.

    python tests/benchmarks/llamaindex_overhead.py

Prints milliseconds a call through the router and of the bare target, medians of interleaved rounds, and their difference and ratio.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from collections.abc import Awaitable, Callable

import llama_index.core
from instant import Instant
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import LLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import FunctionTool, QueryEngineTool
from rich.console import Console
from rich.table import Table

from archroute.bench.machine import processor
from archroute.dispatch import Route
from llamaindex_archroute import ArchRouterLLM, ArchRouterSelector

ROUNDS, CALLS = 30, 20
ROUTES = 10
TALK = [ChatMessage(f"turn {number} " + "word " * 50, role=("user", "assistant")[number % 2]) for number in range(19)]
TOOLS = [FunctionTool.from_defaults(lambda: "noon", name="clock", description="The time")]


class Named(CustomQueryEngine):
    """Answers with its name."""

    name: str

    def custom_query(self, query_str: str) -> str:
        """The name."""
        return self.name


Call = Callable[[], Awaitable[object]]


def calls() -> dict[str, tuple[Call, Call]]:
    """What is measured: a call through the router, and the same of the bare target."""
    target = MockFunctionCallingLLM(is_chat_model=True)
    routes = [Route(f"route_{number}", f"Requests of kind {number}", target=target) for number in range(ROUTES)]
    router = ArchRouterLLM(routes, default=target, model=Instant())
    engines = [Named(name=route.policy.name) for route in routes]
    query_router = RouterQueryEngine(
        selector=ArchRouterSelector(default=0, model=Instant()),
        query_engine_tools=[
            QueryEngineTool.from_defaults(engine, name=engine.name, description=f"Requests of kind {engine.name}")
            for engine in engines
        ],
        llm=target,
    )

    def both(call: Callable[[LLM], object]) -> tuple[Call, Call]:
        return _awaitable(lambda: call(router)), _awaitable(lambda: call(target))

    return {
        "chat": both(lambda llm: llm.chat(TALK)),
        "achat": (lambda: router.achat(TALK), lambda: target.achat(TALK)),
        "stream_chat": both(lambda llm: list(llm.stream_chat(TALK))),
        "chat_with_tools": both(lambda llm: llm.chat_with_tools(TOOLS, chat_history=TALK)),  # type: ignore[attr-defined]
        "complete": both(lambda llm: llm.complete("word " * 50)),
        "query": (
            _awaitable(lambda: query_router.query("word " * 50)),
            _awaitable(lambda: engines[0].query("word " * 50)),
        ),
        "aquery": (lambda: query_router.aquery("word " * 50), lambda: engines[0].aquery("word " * 50)),
    }


def _awaitable(call: Callable[[], object]) -> Call:
    async def run() -> object:
        return call()

    return run


async def milliseconds(call: Call) -> float:
    """Of one call, averaged over a round."""
    start = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - start) * 1000 / CALLS


async def main() -> None:
    """Measure and print."""
    table = Table(
        "call", "routed, ms", "bare, ms", "added, ms", "ratio", title=f"{ROUTES} routes, {len(TALK)} messages"
    )
    for name, (routed, bare) in calls().items():
        await routed()
        await bare()
        rounds = [(await milliseconds(routed), await milliseconds(bare)) for _ in range(ROUNDS)]
        with_router, without = (statistics.median(times) for times in zip(*rounds, strict=True))
        table.add_row(
            name,
            f"{with_router:.3f}",
            f"{without:.3f}",
            f"{with_router - without:.3f}",
            f"{with_router / without:.1f}",
        )
    console = Console()
    console.print(f"{processor()}, Python {platform.python_version()}, llama-index-core {llama_index.core.__version__}")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
