"""What LlamaIndex's instrumentation is told: events and spans, in order; and what observers are told of turns."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events.llm import LLMChatStartEvent, LLMCompletionStartEvent
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from pydantic import Field

from archroute import Decision
from llamaindex_archroute import ArchRouterDecisionEvent


class Events(BaseEventHandler):
    """Keeps every event."""

    events: list[Any] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **_: Any) -> None:
        self.events.append(event)

    def decision_events(self) -> list[ArchRouterDecisionEvent]:
        return [event for event in self.events if isinstance(event, ArchRouterDecisionEvent)]

    def decisions(self) -> list[Decision]:
        return [event.decision for event in self.decision_events()]

    def served(self) -> list[str]:
        """The names of the models that were called, in order."""
        starts = [event for event in self.events if isinstance(event, LLMChatStartEvent | LLMCompletionStartEvent)]
        return [start.model_dict["model_name"] for start in starts]


class Spans(SimpleSpanHandler):
    """Keeps every span."""

    def parent_of(self, method: str) -> str | None:
        """`Class.method` of the span around the one of `method`."""
        (span,) = [span for span in self.completed_spans if span.id_.startswith(f"{method}-")]
        return span.parent_id.split("-")[0] if span.parent_id else None
