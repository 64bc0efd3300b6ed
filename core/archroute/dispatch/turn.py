"""One turn: its targets are tried in order until one answers, and what happened is written down."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from archroute.decision import Attempt, Decision, Outcome
from archroute.dispatch.feasibility import obstacle
from archroute.dispatch.models import Model, Target
from archroute.dispatch.request import Request
from archroute.dispatch.route import RouteTable
from archroute.dispatch.shadows import Shadow
from archroute.errors import TargetTimeoutError
from archroute.observe.record import Counterfactual, TurnRecord, Usage

if TYPE_CHECKING:
    from archroute.dispatch.dispatch import Dispatch

_Answer = TypeVar("_Answer")
_END: Any = object()  # in place of a first piece, where a stream has none


@dataclass
class _Try:
    """One target's attempt, while it runs."""

    served: bool = False


class Turn(Generic[Target]):
    """A turn that is decided and not yet served. Used once, by one of `run`, `arun`, `stream` and `astream`.

    Targets are tried in the order of the route table: those that can't take the request, and those whose circuit is open, are passed
    over. A stream's target may fail over until its first piece is there, and never after.

    Attributes:
        id: Tells it from all others.
        reused: Whether the turn was decided before, and an agent's loop over tools has gone on since.
    """

    def __init__(
        self, dispatch: Dispatch, table: RouteTable[Target], decision: Decision, request: Request, *, reused: bool
    ) -> None:
        self.id = uuid.uuid4().hex
        self.reused = reused
        self._dispatch, self._table, self._request = dispatch, table, request
        self._attempts: list[Attempt] = []
        self._decision = decision.model_copy(update={"target": None, "attempts": ()})
        order = table.serving(decision.route, self.id if request.session is None else request.session)
        began = table.named(decision.target) if reused and decision.target else None
        if began:  # it goes on with the turn, its share be 0 since: providers' tool calls are not each other's
            order = [began, *(model for model in order if model is not began)]
        only = table.named(request.target) if request.target is not None else None
        self._models = [only] if only else order
        bound = table.bound.get(decision.route)
        self._timeout = bound.serving.timeout if bound else None
        self._error: Exception | None = None
        self._told = False
        self._usage: Usage | None = None
        deciding = 0.0 if reused else decision.latency_ms / 1000
        self._started, self._clock = time.time() - deciding, time.perf_counter() - deciding
        self._began = dispatch.turn_began()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What has become of targets so far; that of the target that is being asked is not among them yet."""
        return tuple(self._attempts)

    def told(self) -> None:
        """Part of an answer has been seen by somebody before the answer is here: no other target may serve from now on."""
        self._told = True

    @property
    def decision(self) -> Decision:
        """The decision, with the attempts so far and, once there is one, the target that serves."""
        served = next((attempt.target for attempt in self._attempts if attempt.outcome == "served"), None)
        return self._decision.model_copy(update={"target": served, "attempts": tuple(self._attempts)})

    @property
    def first(self) -> Model[Target]:
        """Who would be asked first, as it looks now."""
        able = [model for model in self._models if obstacle(model.info, self._request.needs) is None]
        closed = [model for model in able if self._dispatch.breaker(model.name).state != "open"]
        return (closed or able or self._models)[0]

    def run(self, ask: Callable[[Target], _Answer], shadow: Callable[[Target], Any] | None = None) -> _Answer:
        """The answer of the first target that gives one.

        Args:
            ask: Calls a target.
            shadow: Calls a shadow; None: there are none.

        Raises:
            Exception: The last target's error, when all have failed.
        """
        with self._recorded():
            self._ask_shadows(self._dispatch.shadows.start, shadow)
            for model in self._candidates():
                with self._trying(model) as attempt:
                    answer = self._in_time(partial(ask, model.target))
                    attempt.served = True
                if attempt.served:
                    self._dispatch.keep(self._request, self.decision)
                    self._read(answer)
                    return answer
            raise self._failure()

    async def arun(
        self, ask: Callable[[Target], Awaitable[_Answer]], shadow: Callable[[Target], Awaitable[Any]] | None = None
    ) -> _Answer:
        """`run`, asynchronous."""
        with self._recorded():
            self._ask_shadows(self._dispatch.shadows.astart, shadow)
            for model in self._candidates():
                with self._trying(model) as attempt:
                    answer = await self._ain_time(ask(model.target))
                    attempt.served = True
                if attempt.served:
                    await self._dispatch.akeep(self._request, self.decision)
                    self._read(answer)
                    return answer
            raise self._failure()

    def stream(
        self, ask: Callable[[Target], Iterator[_Answer]], shadow: Callable[[Target], Any] | None = None
    ) -> Generator[_Answer]:
        """The pieces of the first target that gives one; closing the stream closes the target's.

        Raises:
            Exception: The last target's error, when all have failed before their first piece; the target's own after it.
        """
        with self._recorded():
            self._ask_shadows(self._dispatch.shadows.start, shadow)
            for model in self._candidates():
                with self._trying(model) as attempt:
                    pieces, first = self._in_time(partial(_opened, partial(ask, model.target)), _close_late)
                    attempt.served = True
                if attempt.served:
                    self._dispatch.keep(self._request, self.decision)
                    yield from self._rest(model, pieces, first)
                    return
            raise self._failure()

    async def astream(
        self,
        ask: Callable[[Target], AsyncIterator[_Answer] | Awaitable[AsyncIterator[_Answer]]],
        shadow: Callable[[Target], Awaitable[Any]] | None = None,
    ) -> AsyncGenerator[_Answer]:
        """`stream`, asynchronous; `ask` returns the pieces, or what gives them when awaited."""
        with self._recorded():
            self._ask_shadows(self._dispatch.shadows.astart, shadow)
            for model in self._candidates():
                with self._trying(model) as attempt:
                    pieces, first = await self._ain_time(_aopened(ask(model.target)))
                    attempt.served = True
                if attempt.served:
                    await self._dispatch.akeep(self._request, self.decision)
                    async with aclosing(self._arest(model, pieces, first)) as rest:
                        async for piece in rest:
                            yield piece
                    return
            raise self._failure()

    # Who is asked

    def _candidates(self) -> Iterator[Model[Target]]:
        """The targets to ask, in order; those passed over are written down."""
        able, asked = [], False
        for model in self._models:
            cause = obstacle(model.info, self._request.needs)
            if cause is None:
                able.append(model)
                if not self._dispatch.breaker(model.name).allows():
                    cause = "its circuit is open"
            if cause is not None:
                self._attempts.append(Attempt(target=model.name, outcome="passed_over", cause=cause))
                continue
            asked = True
            yield model
            if self._told:
                return
        if not asked:
            # Better in vain than not at all: what is known of a model may be wrong, and a circuit's time too long.
            yield (able or self._models)[0]

    @contextmanager
    def _trying(self, model: Model[Target]) -> Iterator[_Try]:
        """Writes down what becomes of a target; its failure ends here, so that the next one can be tried."""
        breaker, attempt, start = self._dispatch.breaker(model.name), _Try(), time.perf_counter()

        def note(outcome: Outcome, error: BaseException | None = None) -> None:
            cause = type(error).__name__ if error else None
            spent = (time.perf_counter() - start) * 1000
            self._attempts.append(Attempt(target=model.name, outcome=outcome, cause=cause, latency_ms=spent))

        try:
            yield attempt
        except self._table.signals as signal:
            breaker.left()
            note("left", signal)
            raise
        except Exception as error:
            breaker.failed()
            note("timed_out" if isinstance(error, TargetTimeoutError) else "failed", error)
            self._error = error
        except BaseException as error:
            breaker.left()
            note("left", error)
            raise
        else:
            breaker.succeeded()
            note("served")

    def _failure(self) -> Exception:
        """The last target's error, with a note on those before it."""
        assert self._error is not None  # noqa: S101 - at least one target is asked, and all that were have failed
        others = [f"{attempt.target}: {attempt.cause}" for attempt in self._attempts[:-1]]
        if others:
            self._error.add_note(f"archroute: tried before, {', '.join(others)}")
        return self._error

    # Time

    def _in_time(self, call: Callable[[], _Answer], late: Callable[[Future[_Answer]], None] | None = None) -> _Answer:
        """What `call` returns, if it does so within the route's timeout; else it is left to itself, and what it ends in to `late`."""
        if self._timeout is None:
            return call()
        result: Future[_Answer] = Future()

        def run() -> None:
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=contextvars.copy_context().run, args=(run,), name="archroute-turn", daemon=True).start()
        if not wait([result], self._timeout).done:
            if late is not None:
                result.add_done_callback(late)
            raise self._too_late()
        return result.result()

    async def _ain_time(self, call: Awaitable[_Answer]) -> _Answer:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return await call
        except TimeoutError:
            if limit.expired():
                raise self._too_late() from None
            raise

    def _too_late(self) -> TargetTimeoutError:
        return TargetTimeoutError(
            f"route {self._decision.route!r}: no answer within {self._timeout:g} s",
            hint="raise the route's timeout, or give it a fallback",
        )

    # Streams

    def _rest(self, model: Model[Target], pieces: Iterator[_Answer], first: _Answer) -> Iterator[_Answer]:
        try:
            with self._begun(model):
                if first is _END:
                    return
                self._read(first)
                yield first
                for piece in pieces:
                    self._read(piece)
                    yield piece
        finally:
            _close(pieces)

    async def _arest(
        self, model: Model[Target], pieces: AsyncIterator[_Answer], first: _Answer
    ) -> AsyncGenerator[_Answer]:
        try:
            with self._begun(model):
                if first is _END:
                    return
                self._read(first)
                yield first
                async for piece in pieces:
                    self._read(piece)
                    yield piece
        finally:
            await _aclose(pieces)

    @contextmanager
    def _begun(self, model: Model[Target]) -> Iterator[None]:
        """Writes down a failure behind the first piece, which the caller has seen, so that no other target may serve now."""
        try:
            yield
        except self._table.signals:
            raise
        except Exception as error:
            self._dispatch.breaker(model.name).failed()
            cause = f"{type(error).__name__} in its stream"
            self._attempts[-1] = self._attempts[-1].model_copy(update={"outcome": "failed", "cause": cause})
            raise

    # What is told

    def _ask_shadows(
        self, start: Callable[[Shadow, Callable[[Target], Any]], None], ask: Callable[[Target], Any] | None
    ) -> None:
        if ask is None or self._request.target is not None:  # it is in the form of another provider
            return
        for model in self._table.shadows(self._decision.route):
            start(Shadow(self.id, self._decision.route, model, self._table.usage_of), ask)

    def _read(self, answer: Any) -> None:
        usage = self._table.usage_of(answer)
        if usage is not None:
            self._usage = usage.added(self._usage) if self._table.usages_add_up else usage.joined(self._usage)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Tells the observers when the turn is over, however it ends."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._dispatch.turn_ended(self._record(error), self._began)

    def _record(self, error: BaseException | None) -> TurnRecord:
        decision = self.decision
        served = self._table.named(decision.target) if decision.target else None
        outcome: Outcome = "served"
        if error is not None:
            failed = isinstance(error, Exception) and not isinstance(error, self._table.signals)
            outcome = "failed" if failed else "left"
        return TurnRecord(
            id=self.id,
            started=self._started,
            session=_writable(self._request.session),
            route=decision.route,
            rule="tool_loop" if self.reused else decision.reason,
            target=decision.target,
            outcome=outcome,
            cause=type(error).__name__ if error is not None else None,
            decision=decision,
            latency_ms=(time.perf_counter() - self._clock) * 1000,
            usage=self._usage,
            cost=served.cost(self._usage) if served else None,
            counterfactual=self._counterfactual(served),
            text=_writable(self._request.text) if self._dispatch.keep_text else None,
        )

    def _counterfactual(self, served: Model[Target] | None) -> tuple[Counterfactual, ...]:
        route = self._decision.route
        arms = [model for model in self._table.arms(route) if model is not served]
        return tuple(
            Counterfactual(
                target=model.name,
                role=role,
                latency_ms=self._dispatch.mean_latency(route, model.name),
                cost=model.cost(self._usage),
            )
            for role, models in (("arm", arms), ("shadow", self._table.shadows(route)))
            for model in models
        )


def _writable(text: str | None) -> str | None:
    """The text without lone surrogates, which no file takes."""
    return None if text is None else text.encode(errors="replace").decode()


def _opened(ask: Callable[[], Iterator[_Answer]]) -> tuple[Iterator[_Answer], _Answer]:
    """A stream, and its first piece."""
    pieces = iter(ask())
    return pieces, next(pieces, _END)


async def _aopened(
    stream: AsyncIterator[_Answer] | Awaitable[AsyncIterator[_Answer]],
) -> tuple[AsyncIterator[_Answer], _Answer]:
    pieces = aiter(await stream if isinstance(stream, Awaitable) else stream)
    return pieces, await anext(pieces, _END)


def _close_late(opened: Future[tuple[Iterator[_Answer], _Answer]]) -> None:
    if opened.exception() is None:
        _close(opened.result()[0])


def _close(pieces: Any) -> None:
    close = getattr(pieces, "close", None)  # iterators that are no generators have none
    if close is not None:
        close()


async def _aclose(pieces: Any) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
