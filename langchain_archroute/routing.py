"""How a router runs: decide, then let the target serve, for one input, a stream or a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from pydantic import PrivateAttr

from langchain_archroute.batching import Outcome, PackedBatches
from langchain_archroute.decider import Decider
from langchain_archroute.route import RouteTable
from langchain_archroute.serving import (
    ajoined,
    astamped_stream,
    ended,
    joined,
    stamped,
    stamped_stream,
    target_config,
)


class Routing(PackedBatches[Any], RunnableSerializable[Any, Any]):
    """The runs of a router; what it is built from is its subclass's.

    Every run is a chain run with the decision and the target as its children.
    """

    _table: RouteTable = PrivateAttr()
    _decider: Decider = PrivateAttr()

    def outcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """Decide on several inputs in one packed call, without a trace; an input that fails fails alone."""
        return self._decider.outcomes(inputs)

    async def aoutcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """`outcomes`, without blocking the event loop."""
        return await self._decider.aoutcomes(inputs)

    def run(
        self, input: Any, config: RunnableConfig | None = None, outcome: Outcome | None = None, **kwargs: Any
    ) -> Any:
        """Decide, unless that has been done, and run the target; `kwargs` are the target's."""
        return self._call_with_config(self._served, input, config, outcome=outcome, **kwargs)

    async def arun(
        self, input: Any, config: RunnableConfig | None = None, outcome: Outcome | None = None, **kwargs: Any
    ) -> Any:
        """`run`, without blocking the event loop."""
        return await self._acall_with_config(self._aserved, input, config, outcome=outcome, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Decide, and pass on what the target streams."""
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """`stream`, without blocking the event loop."""

        async def only() -> AsyncIterator[Any]:
            yield input

        async with ended(self.atransform(only(), config, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Read the whole input, which a decision needs, then stream."""
        yield from self._transform_stream_with_config(input, self._stream_served, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`transform`, without blocking the event loop."""
        served = self._atransform_stream_with_config(input, self._astream_served, config, **kwargs)
        async with ended(served):
            async for chunk in served:
                yield chunk

    def _served(
        self,
        input: Any,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        outcome: Outcome | None = None,
        **kwargs: Any,
    ) -> Any:
        deciding = patch_config(config, callbacks=run_manager.get_child("decide"))
        decision = self._decider.run(input, deciding, outcome)
        target = self._table.target_of(decision)
        return stamped(target.invoke(input, target_config(config, run_manager, decision), **kwargs), decision)

    async def _aserved(
        self,
        input: Any,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        outcome: Outcome | None = None,
        **kwargs: Any,
    ) -> Any:
        deciding = patch_config(config, callbacks=run_manager.get_child("decide"))
        decision = await self._decider.arun(input, deciding, outcome)
        target = self._table.target_of(decision)
        return stamped(await target.ainvoke(input, target_config(config, run_manager, decision), **kwargs), decision)

    def _stream_served(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        input = joined(inputs)
        decision = self._decider.invoke(input, patch_config(config, callbacks=run_manager.get_child("decide")))
        target = self._table.target_of(decision)
        chunks = target.stream(input, target_config(config, run_manager, decision), **kwargs)
        yield from stamped_stream(chunks, decision)

    async def _astream_served(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        input = await ajoined(inputs)
        decision = await self._decider.ainvoke(input, patch_config(config, callbacks=run_manager.get_child("decide")))
        target = self._table.target_of(decision)
        chunks = target.astream(input, target_config(config, run_manager, decision), **kwargs)
        async with ended(astamped_stream(chunks, decision)) as stamped_chunks:
            async for chunk in stamped_chunks:
                yield chunk
