"""Turns as OpenTelemetry spans and metrics, as the SDK's own exporters see them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY, generate_latest
from records import STARTED, a_decision, a_shadow, a_turn

from archroute import SettingError
from archroute.decision import Attempt
from archroute.observe import ShadowRecord, TurnRecord, Usage
from archroute.observe.otel import OtelObserver

SERVED = a_turn(
    Attempt(target="small", outcome="passed_over", cause="about 9000 tokens are more than its 8192"),
    Attempt(target="mid", outcome="failed", cause="RateLimitError", latency_ms=100.0),
    Attempt(target="slow", outcome="timed_out", latency_ms=150.0),
    Attempt(target="big", outcome="served", latency_ms=50.0),  # to the first piece of a stream
    usage=Usage(input_tokens=9000, output_tokens=50),
    cost=0.25,
)
FAILED = a_turn(Attempt(target="big", outcome="failed", cause="AuthenticationError", latency_ms=400.0))


class Told:
    """What an observer's exporters have received."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = OtelObserver(self.tracer_provider, MeterProvider([self._reader]))

    def turn(self, record: TurnRecord) -> None:
        self.observer.turn_ended(record, self.observer.turn_began())

    def shadow(self, record: ShadowRecord) -> None:
        self.observer.shadow_ended(record)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, metric: str) -> Sequence[Any]:
        return self.metrics[metric].data.data_points

    def counts(self, metric: str) -> dict[tuple[Any, ...], float]:
        """The values of the points' attributes, in the order of their names → the count, or the sum over a histogram."""
        return {
            tuple(point.attributes[name] for name in sorted(point.attributes)): (
                point.value if isinstance(point, NumberDataPoint) else point.sum
            )
            for point in self.points(metric)
        }


@pytest.fixture
def told() -> Told:
    return Told()


def times(span: ReadableSpan) -> tuple[float, float]:
    """Begin and end, in milliseconds after the turn's begin."""
    begin = STARTED * 1e9
    return round((span.start_time - begin) / 1e6, 3), round((span.end_time - begin) / 1e6, 3)


# Spans


def test_a_turn_is_a_span_with_its_decision_and_every_target_that_was_asked_inside(told: Told):
    told.turn(SERVED)
    turn = told.span("archroute.turn")
    assert turn.parent is None
    assert turn.kind is SpanKind.INTERNAL
    inside = [span for span in told.spans if span is not turn]
    assert [(span.name, span.kind) for span in inside] == [
        ("archroute.decide", SpanKind.INTERNAL),
        ("chat mid", SpanKind.CLIENT),
        ("chat slow", SpanKind.CLIENT),
        ("chat big", SpanKind.CLIENT),
    ]
    assert {span.parent.span_id for span in inside} == {turn.context.span_id}
    assert {span.context.trace_id for span in inside} == {turn.context.trace_id}
    assert {span.instrumentation_scope.name for span in told.spans} == {"archroute"}


def test_spans_have_the_times_that_the_turn_had(told: Told):
    told.turn(SERVED)
    assert {span.name: times(span) for span in told.spans} == {
        "archroute.turn": (0, 500),
        "archroute.decide": (0, 20),
        "chat mid": (20, 120),
        "chat slow": (120, 270),
        "chat big": (270, 500),  # to the end of its stream
    }


def test_no_span_is_longer_than_its_turn(told: Told):
    told.turn(a_turn(*SERVED.decision.attempts, latency_ms=110.0))  # clocks differ by a little
    assert [times(span) for span in told.spans] == [(0, 20), (20, 110), (110, 110), (110, 110), (0, 110)]


def test_spans_lie_within_the_one_that_was_current_when_the_turn_began(told: Told):
    tracer = told.tracer_provider.get_tracer("application")
    with tracer.start_as_current_span("request") as request:
        began = told.observer.turn_began()
    with tracer.start_as_current_span("another"):  # a stream may end anywhere
        told.observer.turn_ended(SERVED, began)
    turn = told.span("archroute.turn")
    assert turn.parent.span_id == request.get_span_context().span_id
    assert {span.context.trace_id for span in told.spans if span.name != "another"} == {
        request.get_span_context().trace_id
    }


def test_no_span_is_left_current(told: Told):
    told.turn(SERVED)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_turn_says_what_was_decided(told: Told):
    told.turn(SERVED)
    assert dict(told.span("archroute.turn").attributes) == {
        "archroute.turn.id": "turn-1",
        "archroute.route": "tax",
        "archroute.rule": "matched",
        "archroute.target": "big",
        "archroute.outcome": "served",
        "archroute.confidence": 0.75,
        "archroute.margin": 0.5,
        "archroute.model": "embedded",
        "archroute.attempts": 4,
        "archroute.cost": 0.25,
    }
    assert dict(told.span("archroute.decide").attributes) == {
        "archroute.route": "tax",
        "archroute.rule": "matched",
        "archroute.confidence": 0.75,
        "archroute.margin": 0.5,
        "archroute.model": "embedded",
        "archroute.prompt_tokens": 40,
        "archroute.truncated": False,
    }


def test_a_call_has_the_attributes_of_the_conventions(told: Told):
    told.turn(SERVED)
    assert dict(told.span("chat big").attributes) == {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.CHAT.value,
        gen_ai.GEN_AI_PROVIDER_NAME: "archroute",
        gen_ai.GEN_AI_REQUEST_MODEL: "big",
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: 9000,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: 50,
        "archroute.turn.id": "turn-1",
        "archroute.target": "big",
        "archroute.outcome": "served",
        "archroute.shadow": False,
    }


def test_a_call_that_failed_is_an_error_of_the_kind_that_it_was(told: Told):
    told.turn(SERVED)
    failed = {name: told.span(f"chat {name}") for name in ("mid", "slow")}
    assert {span.status.status_code for span in failed.values()} == {StatusCode.ERROR}
    assert failed["mid"].attributes[error_attributes.ERROR_TYPE] == "RateLimitError"
    assert failed["slow"].attributes[error_attributes.ERROR_TYPE] == "timeout"
    assert gen_ai.GEN_AI_USAGE_INPUT_TOKENS not in failed["mid"].attributes
    for name in ("archroute.turn", "archroute.decide", "chat big"):
        assert told.span(name).status.status_code is StatusCode.UNSET
        assert error_attributes.ERROR_TYPE not in told.span(name).attributes


def test_a_turn_that_failed_is_an_error(told: Told):
    told.turn(FAILED)
    turn = told.span("archroute.turn")
    assert turn.status.status_code is StatusCode.ERROR
    assert turn.attributes[error_attributes.ERROR_TYPE] == "AuthenticationError"
    assert "archroute.target" not in turn.attributes


def test_an_answer_that_its_reader_left_is_no_error(told: Told):
    told.turn(a_turn(Attempt(target="big", outcome="left", latency_ms=50.0)))
    assert {span.status.status_code for span in told.spans} == {StatusCode.UNSET}
    assert told.span("chat big").attributes["archroute.outcome"] == "left"
    assert times(told.span("chat big")) == (20, 500)


def test_a_kept_decision_has_no_span_and_no_time(told: Told):
    told.turn(a_turn(rule="tool_loop"))
    assert [span.name for span in told.spans] == ["chat big", "archroute.turn"]
    assert times(told.span("chat big")) == (0, 500)
    assert "archroute.decision.duration" not in told.metrics


def test_a_failure_of_routing_is_told_by_its_kind_alone(told: Told):
    decision = a_decision(
        Attempt(target="big", outcome="served"),
        reason="error",
        route="other",
        error="EngineError: can't read 'my secret diary'",
    )
    told.turn(a_turn(decision=decision, route="other", rule="error"))
    decide = told.span("archroute.decide")
    assert decide.status.status_code is StatusCode.ERROR
    assert decide.attributes[error_attributes.ERROR_TYPE] == "EngineError"
    assert told.span("archroute.turn").status.status_code is StatusCode.UNSET


def test_a_shadow_is_a_call_in_a_trace_of_its_own(told: Told):
    with told.tracer_provider.get_tracer("application").start_as_current_span("request"):
        told.shadow(a_shadow())
    shadow = told.span("chat new")
    assert shadow.parent is None
    assert shadow.kind is SpanKind.CLIENT
    assert times(shadow) == (0, 250)
    assert shadow.attributes["archroute.shadow"] is True
    assert shadow.attributes["archroute.turn.id"] == "turn-1"
    assert shadow.attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] == 100


def test_a_shadow_that_was_not_asked_is_only_counted(told: Told):
    told.shadow(a_shadow(outcome="passed_over", cause="too many", usage=None, cost=None, latency_ms=0.0))
    assert told.spans == []
    assert set(told.metrics) == {"archroute.attempts"}


# Metrics


def test_metrics_have_the_names_units_and_buckets_of_the_conventions(told: Told):
    told.turn(SERVED)
    assert {(name, metric.unit) for name, metric in told.metrics.items()} == {
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION, "s"),
        (gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, "{token}"),
        ("archroute.decision.duration", "s"),
        ("archroute.turns", "{turn}"),
        ("archroute.attempts", "{attempt}"),
        ("archroute.cost", ""),
    }
    bounds = {
        name: tuple(points[0].explicit_bounds)
        for name in told.metrics
        if isinstance((points := told.points(name))[0], HistogramDataPoint)
    }
    assert bounds["gen_ai.client.operation.duration"] == (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    )
    assert bounds["gen_ai.client.token.usage"] == (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    )
    assert bounds["archroute.decision.duration"][0] == 0.001


def test_every_call_has_a_duration_and_the_last_one_the_tokens(told: Told):
    told.turn(SERVED)
    durations = {
        (point.attributes[gen_ai.GEN_AI_REQUEST_MODEL], point.attributes.get(error_attributes.ERROR_TYPE)): point.sum
        for point in told.points("gen_ai.client.operation.duration")
    }
    assert durations == {
        ("mid", "RateLimitError"): pytest.approx(0.1),
        ("slow", "timeout"): pytest.approx(0.15),
        ("big", None): pytest.approx(0.23),
    }
    tokens = {
        (point.attributes[gen_ai.GEN_AI_REQUEST_MODEL], point.attributes[gen_ai.GEN_AI_TOKEN_TYPE]): point.sum
        for point in told.points("gen_ai.client.token.usage")
    }
    assert tokens == {
        ("big", gen_ai.GenAiTokenTypeValues.INPUT.value): 9000,
        ("big", gen_ai.GenAiTokenTypeValues.OUTPUT.value): 50,
    }
    for metric in ("gen_ai.client.operation.duration", "gen_ai.client.token.usage"):
        for point in told.points(metric):
            assert point.attributes[gen_ai.GEN_AI_OPERATION_NAME] == "chat"
            assert point.attributes[gen_ai.GEN_AI_PROVIDER_NAME] == "archroute"


def test_the_projects_own_metrics_count_turns_attempts_decisions_and_cost(told: Told):
    told.turn(SERVED)
    told.turn(SERVED)
    told.turn(FAILED)
    told.shadow(a_shadow())
    assert told.counts("archroute.turns") == {
        ("served", "tax", "matched", "big"): 2,  # outcome, route, rule, target
        ("failed", "tax", "matched"): 1,
    }
    attempts = {
        tuple(
            point.attributes.get(f"archroute.{name}") for name in ("target", "outcome", "cause", "shadow")
        ): point.value
        for point in told.points("archroute.attempts")
    }
    assert attempts == {
        ("small", "passed_over", "about N tokens are more than its N", False): 2,
        ("mid", "failed", "RateLimitError", False): 2,
        ("slow", "timed_out", None, False): 2,
        ("big", "served", None, False): 2,
        ("big", "failed", "AuthenticationError", False): 1,
        ("new", "served", None, True): 1,
    }
    assert told.counts("archroute.cost") == {(False, "big"): 0.5, (True, "new"): 0.5}  # shadow, target
    assert told.counts("archroute.decision.duration") == {("embedded",): pytest.approx(0.06)}


def test_requests_of_any_length_make_one_series(told: Told):
    for tokens in range(9000, 9100):
        cause = f"about {tokens} tokens are more than its 8192"
        told.turn(a_turn(Attempt(target="small", outcome="passed_over", cause=cause), outcome="failed", id=str(tokens)))
    assert [point.value for point in told.points("archroute.attempts")] == [100]
    assert all(len(told.points(metric)) == 1 for metric in told.metrics)


@pytest.fixture
def prometheus() -> Iterator[MeterProvider]:
    """A provider whose metrics `prometheus_client` shows; the reader signs itself on to the global registry."""
    provider = MeterProvider([PrometheusMetricReader()], resource=Resource.get_empty())
    yield provider
    provider.shutdown()


def test_prometheus_reads_the_metrics(prometheus: MeterProvider):
    observer = OtelObserver(TracerProvider(), prometheus)
    observer.turn_ended(SERVED, observer.turn_began())
    observer.turn_ended(FAILED, observer.turn_began())
    observer.shadow_ended(a_shadow())
    text = generate_latest(REGISTRY).decode()

    def value(metric: str, **labels: str) -> float:
        """Of the one series of this name that has these labels."""
        wanted = [f'{name}="{label}"' for name, label in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith(f"{metric}{{")]
        (line,) = [line for line in lines if all(label in line for label in wanted)]
        return float(line.rpartition(" ")[2])

    turn = {"archroute_route": "tax", "archroute_rule": "matched"}
    assert value("archroute_turns_total", archroute_outcome="served", archroute_target="big", **turn) == 1
    assert value("archroute_turns_total", archroute_outcome="failed", **turn) == 1
    assert value("archroute_attempts_total", archroute_target="mid", archroute_cause="RateLimitError") == 1
    assert value("archroute_attempts_total", archroute_target="new", archroute_outcome="served") == 1
    assert value("archroute_cost_total", archroute_target="big") == 0.25
    assert value("archroute_decision_duration_seconds_count", archroute_model="embedded") == 2
    call = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "mid"}
    assert value("gen_ai_client_operation_duration_seconds_sum", **call) == pytest.approx(0.1)
    assert value("gen_ai_client_operation_duration_seconds_bucket", le="0.08", **call) == 0
    assert value("gen_ai_client_operation_duration_seconds_bucket", le="0.16", **call) == 1
    tokens = {"gen_ai_request_model": "big", "gen_ai_token_type": "input"}
    assert value("gen_ai_client_token_usage_sum", **tokens) == 9000


# What is nobody's business


def test_neither_sessions_nor_texts_nor_messages_are_in_spans_or_metrics(told: Told):
    decision = a_decision(
        *SERVED.decision.attempts,
        reason="error",
        error="ConversationError: SECRET-message",
    )
    told.turn(a_turn(*SERVED.decision.attempts, decision=decision, session="SECRET-session", text="SECRET-text"))
    told.shadow(a_shadow())
    everything = "".join(span.to_json() for span in told.spans) + "".join(
        metric.to_json() for metric in told.metrics.values()
    )
    assert "chat big" in everything
    assert "archroute.turns" in everything
    assert "SECRET" not in everything
    assert "Tax law" not in everything


def test_an_id_of_a_turn_is_on_spans_alone(told: Told):
    told.turn(SERVED)
    told.shadow(a_shadow())
    assert "turn-1" not in "".join(metric.to_json() for metric in told.metrics.values())


# Set-up


def test_without_a_set_up_nothing_is_told_and_nothing_fails():
    observer = OtelObserver()  # the global providers, which nobody has set here
    observer.turn_ended(SERVED, observer.turn_began())
    observer.shadow_ended(a_shadow())


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingError, match="opentelemetry-api is missing") as caught:
        OtelObserver()
    assert caught.value.hint == 'pip install "archroute[otel]"'
