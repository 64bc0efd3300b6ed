"""Batches: all inputs are decided on in one packed call, then each runs by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig

from archroute.decision import Decision

Outcome = Decision | Exception
"""What deciding on one input ended in: a decision, or what failed where failures are to be raised."""

_Answer = TypeVar("_Answer")


class PackedBatches(Runnable[Any, _Answer], ABC, Generic[_Answer]):
    """A Runnable that decides on all inputs of a batch at once.

    The framework's own batch methods do the rest, so that order, `max_concurrency` and `return_exceptions` are exactly what they
    are for every other Runnable.
    """

    @abstractmethod
    def outcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """Decide on several inputs in one packed call, without a trace; an input that fails fails alone."""

    @abstractmethod
    async def aoutcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """`outcomes`, without blocking the event loop."""

    @abstractmethod
    def run(
        self, input: Any, config: RunnableConfig | None = None, outcome: Outcome | None = None, **kwargs: Any
    ) -> _Answer:
        """Run one input; with an `outcome`, it is decided on already, and the trace shows what was decided."""

    @abstractmethod
    async def arun(
        self, input: Any, config: RunnableConfig | None = None, outcome: Outcome | None = None, **kwargs: Any
    ) -> _Answer:
        """`run`, without blocking the event loop."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> _Answer:
        """Run one input."""
        return self.run(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> _Answer:
        """`invoke`, without blocking the event loop."""
        return await self.arun(input, config, **kwargs)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[_Answer]:
        """Decide on all inputs in one packed call, then run them in parallel; answers in the inputs' order."""
        items = list(zip(inputs, self.outcomes(inputs), strict=True))
        return _Decided(self).batch(items, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[_Answer]:
        """`batch`, without blocking the event loop."""
        items = list(zip(inputs, await self.aoutcomes(inputs), strict=True))
        return await _Decided(self).abatch(items, config, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Like `batch`, but an answer comes as soon as it is there, with its input's number."""
        items = list(zip(inputs, self.outcomes(inputs), strict=True))
        exceptions = cast(Any, return_exceptions)  # the base class has an overload for each value
        yield from _Decided(self).batch_as_completed(items, config, return_exceptions=exceptions, **kwargs)

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, Any]]:
        """`batch_as_completed`, without blocking the event loop."""
        items = list(zip(inputs, await self.aoutcomes(inputs), strict=True))
        exceptions = cast(Any, return_exceptions)
        async for answer in _Decided(self).abatch_as_completed(items, config, return_exceptions=exceptions, **kwargs):
            yield answer


class _Decided(Runnable[tuple[Any, Outcome], _Answer]):
    """A Runnable whose inputs are decided on already."""

    def __init__(self, runnable: PackedBatches[_Answer]) -> None:
        self._runnable = runnable

    def invoke(self, input: tuple[Any, Outcome], config: RunnableConfig | None = None, **kwargs: Any) -> _Answer:
        return self._runnable.run(input[0], config, input[1], **kwargs)

    async def ainvoke(self, input: tuple[Any, Outcome], config: RunnableConfig | None = None, **kwargs: Any) -> _Answer:
        return await self._runnable.arun(input[0], config, input[1], **kwargs)
