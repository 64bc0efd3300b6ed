"""The event that tells LlamaIndex's instrumentation of a decision."""

from __future__ import annotations

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

from archroute import Decision

dispatcher = get_dispatcher(__name__)


class ArchRouterDecisionEvent(BaseEvent):
    """A router has decided. One event a decision, in the span of the call that asked for it.

    Holds no text of the conversation and nothing of the targets.

    Example:
        >>> from llama_index.core.instrumentation import get_dispatcher
        >>> from llama_index.core.instrumentation.event_handlers import BaseEventHandler
        >>> class Printer(BaseEventHandler):
        ...     def handle(self, event, **kwargs):
        ...         if isinstance(event, ArchRouterDecisionEvent):
        ...             print(event.decision.route)
        >>> get_dispatcher("llamaindex_archroute").add_event_handler(Printer())

    Attributes:
        decision: What was decided, and why.
    """

    decision: Decision

    @classmethod
    def class_name(cls) -> str:
        """The name that handlers know the event by."""
        return "ArchRouterDecisionEvent"


def emit(decision: Decision) -> None:
    """Send the event of `decision` to all handlers."""
    dispatcher.event(ArchRouterDecisionEvent(decision=decision))
