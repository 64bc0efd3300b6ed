"""archroute for LlamaIndex: Arch-Router behind router query engines, retrievers, agents and chat engines.

    >>> from llamaindex_archroute import ArchRouterSelector
    >>> selector = ArchRouterSelector(default=0, model="embedded")
    >>> selector.select(["Tax law and returns", "Planning trips"], "Which flights go to Lisbon on Friday?").ind
    1

`ArchRouterSelector` chooses among query engines or retrievers; `ArchRouterLLM` is an LLM that sends every turn to one of several;
`ArchRouterDecisionEvent` tells the instrumentation of each decision.
"""

from archroute.dispatch import Route
from llamaindex_archroute.events import ArchRouterDecisionEvent
from llamaindex_archroute.llm import ArchRouterLLM
from llamaindex_archroute.selector import ArchRouterSelector, ArchRouterSelectorResult

__all__ = ["ArchRouterDecisionEvent", "ArchRouterLLM", "ArchRouterSelector", "ArchRouterSelectorResult", "Route"]
