"""How a router runs: decide, then let targets serve, for one input, a stream or a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from pydantic import PrivateAttr

from archroute.decision import Decision
from archroute.dispatch import Dispatch, Request, Turn
from langchain_archroute.batching import Outcome, PackedBatches
from langchain_archroute.controls import Controls
from langchain_archroute.hearing import unheard
from langchain_archroute.reading import Reading
from langchain_archroute.route import AnyRunnable
from langchain_archroute.serving import ajoined, attempt_config, ended, joined, stamped
from langchain_archroute.sessions import Session, session_of
from langchain_archroute.versions import Version, Versions

RunManager = CallbackManagerForChainRun | AsyncCallbackManagerForChainRun


class Routing(Controls, PackedBatches[Any], RunnableSerializable[Any, Any]):
    """The runs of a router; what it is built from is its subclass's.

    Every run is a chain run with the decision and each attempt of a target as its children.
    """

    _versions: Versions = PrivateAttr()
    _dispatch: Dispatch = PrivateAttr()
    _session: Session | None = PrivateAttr(default=None)

    def outcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """Decide on several inputs in one packed call, without a trace; an input that fails fails alone."""
        return self.decider.outcomes(inputs)

    async def aoutcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """`outcomes`, without blocking the event loop."""
        return await self.decider.aoutcomes(inputs)

    def run(
        self, input: Any, config: RunnableConfig | None = None, outcome: Outcome | None = None, **kwargs: Any
    ) -> Any:
        """Decide, unless that has been done, and run a target; `kwargs` are the target's."""
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
        call = self._call(self._versions.current(), input, config, run_manager, outcome, kwargs)
        turn = self._dispatch.begin(call.table, call.request, call.decide)

        def ask(target: AnyRunnable) -> Any:
            return target.invoke(input, call.attempt(turn, target), **kwargs)

        return stamped(turn.run(ask, call.shadow), turn.decision)

    async def _aserved(
        self,
        input: Any,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        outcome: Outcome | None = None,
        **kwargs: Any,
    ) -> Any:
        version = await self._versions.acurrent()
        call = self._call(version, input, config, run_manager, outcome, kwargs)
        turn = await self._dispatch.abegin(call.table, call.request, call.adecide)

        async def ask(target: AnyRunnable) -> Any:
            return await target.ainvoke(input, call.attempt(turn, target), **kwargs)

        return stamped(await turn.arun(ask, call.ashadow), turn.decision)

    def _stream_served(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        input = joined(inputs)
        call = self._call(self._versions.current(), input, config, run_manager, None, kwargs)
        turn = self._dispatch.begin(call.table, call.request, call.decide)

        def ask(target: AnyRunnable) -> Iterator[Any]:
            return target.stream(input, call.attempt(turn, target), **kwargs)

        # The decision is on the first chunk alone: strings that stand on several are joined when chunks are added up.
        first = True
        with closing(turn.stream(ask, call.shadow)) as chunks:
            for chunk in chunks:
                yield stamped(chunk, turn.decision) if first else chunk
                first = False

    async def _astream_served(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        input = await ajoined(inputs)
        version = await self._versions.acurrent()
        call = self._call(version, input, config, run_manager, None, kwargs)
        turn = await self._dispatch.abegin(call.table, call.request, call.adecide)

        def ask(target: AnyRunnable) -> AsyncIterator[Any]:
            return target.astream(input, call.attempt(turn, target), **kwargs)

        first = True
        async with ended(turn.astream(ask, call.ashadow)) as chunks:
            async for chunk in chunks:
                yield stamped(chunk, turn.decision) if first else chunk
                first = False

    def _call(
        self,
        version: Version,
        input: Any,
        config: RunnableConfig,
        run_manager: RunManager,
        outcome: Outcome | None,
        arguments: dict[str, Any],
    ) -> _Call:
        session = session_of(self._session, input, config)
        return _Call(version, input, config, run_manager, outcome, session, arguments)


class _Call:
    """One call of a router, before and while it is a turn."""

    def __init__(
        self,
        version: Version,
        input: Any,
        config: RunnableConfig,
        run_manager: RunManager,
        outcome: Outcome | None,
        session: str | None,
        arguments: dict[str, Any],
    ) -> None:
        self.table, self._decider = version
        self._input, self._config, self._run_manager = input, config, run_manager
        self._outcome, self._arguments = outcome, arguments
        self._reading = self._decider.read(input)
        tools = bool(arguments.get("tools")) or self.table.binds_tools
        self.request = (
            self._reading.request(session, tools=tools)
            if isinstance(self._reading, Reading)
            else Request.of(None, session=session)
        )

    def decide(self, earlier: Decision | None) -> Decision:
        """Decide, unless that has been done."""
        outcome = self._outcome if earlier is None else earlier
        return self._decider.run(self._input, self._deciding(), outcome, self._reading)

    async def adecide(self, earlier: Decision | None) -> Decision:
        """`decide`, without blocking the event loop."""
        outcome = self._outcome if earlier is None else earlier
        return await self._decider.arun(self._input, self._deciding(), outcome, self._reading)

    def attempt(self, turn: Turn[AnyRunnable], target: AnyRunnable) -> RunnableConfig:
        """The config that a target is asked with."""
        return attempt_config(self._config, self._run_manager, turn, self.table.model_of(target).name)

    def shadow(self, target: AnyRunnable) -> Any:
        """Ask a shadow."""
        with unheard():
            return target.invoke(self._input, **self._arguments)

    async def ashadow(self, target: AnyRunnable) -> Any:
        """`shadow`, without blocking the event loop."""
        with unheard():
            return await target.ainvoke(self._input, **self._arguments)

    def _deciding(self) -> RunnableConfig:
        return patch_config(self._config, callbacks=self._run_manager.get_child("decide"))
