"""What is told of every turn: records, and who takes them.

`LogObserver` and `JsonlObserver` write records; `OtelObserver` (extra `otel`) makes OpenTelemetry spans and metrics of them; `Stats` counts.
"""

from archroute.observe.files import JsonlObserver, LogObserver
from archroute.observe.otel import OtelObserver
from archroute.observe.record import Counterfactual, Observer, ShadowRecord, TurnRecord, Usage
from archroute.observe.stats import Stats

__all__ = [
    "Counterfactual",
    "JsonlObserver",
    "LogObserver",
    "Observer",
    "OtelObserver",
    "ShadowRecord",
    "Stats",
    "TurnRecord",
    "Usage",
]
