"""From a decision to the user's own object: who serves which policy, who stands in, who is tried out beside.

`Route` binds a policy to an object, a `Model` or a `Split`; `Dispatch` is what is remembered and told of turns. The framework packages
build on `RouteTable` and `Turn`.
"""

from archroute.dispatch.binding import bind
from archroute.dispatch.dispatch import Dispatch
from archroute.dispatch.feasibility import Needs, estimated_tokens
from archroute.dispatch.models import Model
from archroute.dispatch.redis_store import RedisStore
from archroute.dispatch.request import Request, session
from archroute.dispatch.route import Route, RouteTable
from archroute.dispatch.sessions import MemoryStore, SessionStore
from archroute.dispatch.split import Shares, Split
from archroute.dispatch.turn import Turn

__all__ = [
    "Dispatch",
    "MemoryStore",
    "Model",
    "Needs",
    "RedisStore",
    "Request",
    "Route",
    "RouteTable",
    "SessionStore",
    "Shares",
    "Split",
    "Turn",
    "bind",
    "estimated_tokens",
    "session",
]
