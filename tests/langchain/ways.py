"""All ways of asking a router one thing, each giving the text of the answer and the decision on it."""

from __future__ import annotations

import asyncio
from typing import Any


def _read(answer: Any) -> tuple[str, dict[str, Any]]:
    return answer.text, answer.response_metadata["archroute"]


def _whole(chunks: list[Any]) -> Any:
    return sum(chunks[1:], chunks[0])


async def _astream(router: Any, said: Any, config: Any) -> Any:
    return _whole([chunk async for chunk in router.astream(said, config)])


WAYS = {
    "invoke": lambda router, said, config=None: _read(router.invoke(said, config)),
    "ainvoke": lambda router, said, config=None: _read(asyncio.run(router.ainvoke(said, config))),
    "stream": lambda router, said, config=None: _read(_whole(list(router.stream(said, config)))),
    "astream": lambda router, said, config=None: _read(asyncio.run(_astream(router, said, config))),
    "batch": lambda router, said, config=None: _read(router.batch([said], config)[0]),
    "abatch": lambda router, said, config=None: _read(asyncio.run(router.abatch([said], config))[0]),
}
