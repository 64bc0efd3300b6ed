"""Arch-Router as a part of LangChain: bind each policy to a Runnable, and every turn goes to the right one.

>>> from langchain_archroute import Route, RunnableRouter
>>> router = RunnableRouter(
...     routes=[Route("tax", "Tax law and returns", target=str.upper), Route("travel", "Planning trips", target=str.title)],
...     default=str.lower,
...     model="embedded",
... )
>>> router.invoke("which flights go to Lisbon on Friday?")
'Which Flights Go To Lisbon On Friday?'

`Route` binds; `RunnableRouter` is the router as a Runnable, `ArchRouterChatModel` as a
chat model, `ArchRouterMiddleware` in an agent, `ArchRouterDecisionModel` behind LangChain's decision protocol; `Decider` the decision alone.
"""

from typing import TYPE_CHECKING, Any

from langchain_archroute.chat_model import ArchRouterChatModel
from langchain_archroute.decider import EVENT, Decider, RoutedDecision
from langchain_archroute.loading import read_routes
from langchain_archroute.optional import MissingPackageError, load
from langchain_archroute.route import Route
from langchain_archroute.runnable_router import RunnableRouter

if TYPE_CHECKING:
    from langchain_archroute.decision_model import ArchRouterDecisionModel
    from langchain_archroute.middleware import ArchRouterMiddleware

__all__ = [
    "EVENT",
    "ArchRouterChatModel",
    "ArchRouterDecisionModel",
    "ArchRouterMiddleware",
    "Decider",
    "MissingPackageError",
    "Route",
    "RoutedDecision",
    "RunnableRouter",
    "read_routes",
]

# Loaded when asked for: what they need comes with an extra, or with newer versions.
_LATER = {
    "ArchRouterMiddleware": (
        "langchain_archroute.middleware",
        "langchain.agents.middleware",
        'pip install "archroute[agents]"',
    ),
    "ArchRouterDecisionModel": (
        "langchain_archroute.decision_model",
        "langchain_core.decisions",
        'pip install "langchain-core>=1.8"',
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, needs, hint = _LATER[name]
    return load(module, name, needs, hint)
