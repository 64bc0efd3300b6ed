"""archroute: Arch-Router inside your application. Policies in plain language, decisions in your own process.

    >>> from archroute import Policy, Router
    >>> router = Router([Policy("tax", "Tax law and returns"), Policy("travel", "Planning trips")], model="embedded")
    >>> router.route("Which flights go to Lisbon on Friday?").route
    'travel'

The way of a request: `conversation` → `prompt` → `engines` → `decision` → `dispatch`. The LangChain and LlamaIndex packages,
`langchain_archroute` and `llamaindex_archroute`, carry a decision on to the user's models.
"""

from archroute.batcher import Batching
from archroute.conversation import Conversation, History, Turn
from archroute.decision import Decision
from archroute.errors import (
    ArchRouteError,
    ConversationError,
    DownloadError,
    EngineError,
    FileFormatError,
    ModelError,
    OverloadedError,
    PolicyError,
    SettingError,
)
from archroute.policy import OTHER, Domain, Policy, PolicySet
from archroute.router import Router

__all__ = [
    "OTHER",
    "ArchRouteError",
    "Batching",
    "Conversation",
    "ConversationError",
    "Decision",
    "Domain",
    "DownloadError",
    "EngineError",
    "FileFormatError",
    "History",
    "ModelError",
    "OverloadedError",
    "Policy",
    "PolicyError",
    "PolicySet",
    "Router",
    "SettingError",
    "Turn",
]
__version__ = "0.1.0"
