"""Records as OpenTelemetry spans and metrics. Comes with `pip install "archroute[otel]"`.

Names are those of the semantic conventions for generative AI (https://github.com/open-telemetry/semantic-conventions-genai), with
the project's own under `archroute.`. Keys of sessions, texts and the messages of errors are in none of them.

| metric | kind, unit | attributes |
|---|---|---|
| `gen_ai.client.operation.duration` | histogram, s | operation, provider and model of `gen_ai.`; `error.type`; `archroute.shadow` |
| `gen_ai.client.token.usage` | histogram, {token} | the same without `error.type`; `gen_ai.token.type` |
| `archroute.decision.duration` | histogram, s | `archroute.model` |
| `archroute.turns` | counter, {turn} | `archroute.`: `route`, `rule`, `target`, `outcome` |
| `archroute.attempts` | counter, {attempt} | `archroute.`: `target`, `outcome`, `cause`, `shadow` |
| `archroute.cost` | counter, the money that prices are in | `archroute.`: `target`, `shadow` |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archroute.decision import Outcome
from archroute.errors import SettingError
from archroute.observe.record import Observer, ShadowRecord, TurnRecord, Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

# The boundaries that the conventions ask for.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
_DECISION_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# Required by the conventions. Whose API a target speaks is not known here, and this tells our spans from those of the target's own library.
_PROVIDER = "archroute"
_UNKNOWN_ERROR: Mapping[Outcome, str] = {"failed": "_OTHER", "timed_out": "timeout"}


class OtelObserver(Observer):
    """Makes a span `archroute.turn` of every turn, with `archroute.decide` and each `chat {target}` that was asked inside it.

    The spans are made when the turn is over, with the times it had; they lie within the span that was current when it began.
    Attempts follow one another from the decision's end; the last one ends with the turn. A shadow's span is the root of its own
    trace; its turn's span has the same `archroute.turn.id`.

    Example:
        >>> observer = OtelObserver()  # to the providers that the application has set up

    Args:
        tracer_provider: Where spans go; None: the global one.
        meter_provider: Where metrics go; None: the global one.

    Raises:
        SettingError: The package `opentelemetry-api` is missing.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise SettingError(
                "the package opentelemetry-api is missing", hint='pip install "archroute[otel]"'
            ) from error
        from archroute import __version__

        self._tracer = trace.get_tracer("archroute", __version__, tracer_provider)
        meter = metrics.get_meter("archroute", __version__, meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._deciding = meter.create_histogram(
            "archroute.decision.duration",
            "s",
            "Time a routing decision took.",
            explicit_bucket_boundaries_advisory=_DECISION_SECONDS,
        )
        self._turns = meter.create_counter("archroute.turns", "{turn}", "Turns that are over.")
        self._attempts = meter.create_counter("archroute.attempts", "{attempt}", "Targets that were to serve a turn.")
        self._cost = meter.create_counter("archroute.cost", "", "What the targets' tokens cost.")

    def turn_began(self) -> Context:
        """The context that the turn's spans belong into."""
        from opentelemetry.context import get_current

        return get_current()

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        """See `Observer`."""
        from opentelemetry.trace import set_span_in_context

        start, end = _span_of(record)
        told = {
            "route": record.route,
            "rule": record.rule,
            "target": record.target,
            "outcome": record.outcome,
        }
        span = self._tracer.start_span(
            "archroute.turn",
            context=began,
            start_time=start,
            attributes=_own(
                {
                    **told,
                    "turn.id": record.id,
                    "confidence": record.decision.confidence,
                    "margin": record.decision.margin,
                    "model": record.decision.model,
                    "attempts": len(record.decision.attempts),
                    "cost": record.cost,
                }
            ),
        )
        inside = set_span_in_context(span, began)
        self._turns.add(1, _own(told), context=inside)
        for attempt in record.decision.attempts:
            self._count(attempt.target, attempt.outcome, attempt.cause, shadow=False, context=inside)
        self._pay(record.target, record.cost, shadow=False, context=inside)
        self._decided(record, start, _decided_at(record), inside)
        for call in _calls(record):
            self._called(call, inside)
        _end(span, end, _error_of(record.outcome, record.cause))

    def shadow_ended(self, record: ShadowRecord) -> None:
        """See `Observer`."""
        from opentelemetry.context import Context

        nothing = Context()
        self._count(record.target, record.outcome, record.cause, shadow=True, context=nothing)
        self._pay(record.target, record.cost, shadow=True, context=nothing)
        if record.outcome != "passed_over":
            start, end = _span_of(record)
            self._called(
                _Call(record.turn, record.target, start, end, record.outcome, record.cause, record.usage, shadow=True),
                nothing,
            )

    def _decided(self, record: TurnRecord, start: int, end: int, inside: Context) -> None:
        if record.rule == "tool_loop":
            return  # the turn's earlier decision was kept
        decision = record.decision
        span = self._tracer.start_span(
            "archroute.decide",
            context=inside,
            start_time=start,
            attributes=_own(
                {
                    "route": decision.route,
                    "rule": decision.reason,
                    "confidence": decision.confidence,
                    "margin": decision.margin,
                    "model": decision.model,
                    "prompt_tokens": decision.prompt_tokens,
                    "truncated": decision.truncated,
                }
            ),
        )
        self._deciding.record(decision.latency_ms / 1e3, _own({"model": decision.model}), context=inside)
        # Of `decision.error` the kind alone: its message may hold the user's words.
        failed = decision.reason == "error"
        _end(span, end, (decision.error or "_OTHER").partition(":")[0] if failed else None)

    def _called(self, call: _Call, within: Context) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        model: dict[str, str | bool] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.request.model": call.target,
            "archroute.shadow": call.shadow,
        }
        used = {} if call.usage is None else {"input": call.usage.input_tokens, "output": call.usage.output_tokens}
        span = self._tracer.start_span(
            f"chat {call.target}",
            context=within,
            kind=SpanKind.CLIENT,
            start_time=call.start,
            attributes={
                **model,
                **_own({"target": call.target, "outcome": call.outcome, "turn.id": call.turn}),
                **{f"gen_ai.usage.{which}_tokens": count for which, count in used.items()},
            },
        )
        inside, error = set_span_in_context(span, within), _error_of(call.outcome, call.cause)
        failed = {} if error is None else {"error.type": error}
        self._duration.record((call.end - call.start) / 1e9, {**model, **failed}, context=inside)
        for which, count in used.items():
            self._tokens.record(count, {**model, "gen_ai.token.type": which}, context=inside)
        _end(span, call.end, error)

    def _count(self, target: str, outcome: Outcome, cause: str | None, *, shadow: bool, context: Context) -> None:
        if cause is not None and outcome == "passed_over":
            cause = re.sub(r"\d+", "N", cause)  # lengths of requests would make a series each
        told = {"target": target, "outcome": outcome, "cause": cause, "shadow": shadow}
        self._attempts.add(1, _own(told), context=context)

    def _pay(self, target: str | None, cost: float | None, *, shadow: bool, context: Context) -> None:
        if cost is not None:
            self._cost.add(cost, _own({"target": target, "shadow": shadow}), context=context)


@dataclass(frozen=True)
class _Call:
    """One call of a target; times are in nanoseconds since the epoch."""

    turn: str
    target: str
    start: int
    end: int
    outcome: Outcome
    cause: str | None
    usage: Usage | None
    shadow: bool


def _calls(record: TurnRecord) -> Iterator[_Call]:
    """The attempts that were asked, one after the other; the last one has the turn's tokens."""
    asked = [attempt for attempt in record.decision.attempts if attempt.outcome != "passed_over"]
    at, (_, end) = _decided_at(record), _span_of(record)
    for number, attempt in enumerate(asked, start=1):
        last = number == len(asked)
        until = end if last else min(at + round(attempt.latency_ms * 1e6), end)
        usage = record.usage if last else None
        yield _Call(record.id, attempt.target, at, until, attempt.outcome, attempt.cause, usage, shadow=False)
        at = until


def _span_of(record: TurnRecord | ShadowRecord) -> tuple[int, int]:
    """When it began and ended, in nanoseconds since the epoch."""
    start = round(record.started * 1e9)
    return start, start + round(record.latency_ms * 1e6)


def _decided_at(record: TurnRecord) -> int:
    """When the decision was there, in nanoseconds since the epoch."""
    start, end = _span_of(record)
    return start if record.rule == "tool_loop" else min(start + round(record.decision.latency_ms * 1e6), end)


def _error_of(outcome: Outcome, cause: str | None) -> str | None:
    """`error.type`; None for what is no error."""
    return (cause or _UNKNOWN_ERROR[outcome]) if outcome in _UNKNOWN_ERROR else None


def _own(told: Mapping[str, str | bool | int | float | None]) -> dict[str, str | bool | int | float]:
    """Attributes of the project's own; what is None has none."""
    return {f"archroute.{name}": value for name, value in told.items() if value is not None}


def _end(span: Span, end: int, error: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(end)
