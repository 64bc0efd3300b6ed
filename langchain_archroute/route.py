"""A policy bound to a Runnable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable

from archroute.dispatch import Route as CoreRoute
from archroute.dispatch import RouteTable as CoreRouteTable
from archroute.errors import PolicyError, SettingError
from archroute.policy import Policy

AnyRunnable = Runnable[Any, Any]
"""A target: a chat model, a chain, an agent, a retriever chain."""


class Route(CoreRoute[AnyRunnable]):
    """A policy, bound to the Runnable that serves it.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> Route("tax", "Tax law and returns", target=RunnableLambda(str.upper))
        Route('tax', target=RunnableLambda)

    Args:
        name: The policy's name, or a `Policy`.
        description: The policy's description, if `name` is not a policy.
        target: A Runnable, or what LangChain makes one of: a function, or a mapping of Runnables.
        fallbacks: Tried in order when the target raises.
        actions: Routes of a domain's actions; the route itself is then the domain, and serves what fits none of them.
        tools: For `ArchRouterMiddleware` alone: the tools this route's model sees, by name or as objects; None: the agent's.
        prompt: For `ArchRouterMiddleware` alone: the system prompt of this route, instead of the agent's.

    Raises:
        PolicyError: The policy is not valid.
        SettingError: A target is no Runnable.
    """

    def __init__(
        self,
        name: str | Policy,
        description: str | None = None,
        *,
        target: Any,
        fallbacks: Iterable[Any] = (),
        actions: Iterable[Route] = (),
        tools: Sequence[Any] | None = None,
        prompt: str | SystemMessage | None = None,
    ) -> None:
        label = name.name if isinstance(name, Policy) else name
        held = tuple(actions)
        super().__init__(name, description, target=as_runnable(target, f"route {label!r}"), actions=held)
        self.actions: tuple[Route, ...] = held
        self.fallbacks = tuple(as_runnable(fallback, f"a fallback of route {label!r}") for fallback in fallbacks)
        self.tools = None if tools is None else tuple(tools)
        self.prompt = SystemMessage(prompt) if isinstance(prompt, str) else prompt

    @property
    def served_by(self) -> AnyRunnable:
        """The target with its fallbacks behind it."""
        return self.target.with_fallbacks(self.fallbacks) if self.fallbacks else self.target

    def mapped(self, change: Callable[[AnyRunnable, str], AnyRunnable]) -> Route:
        """The same route with `change(runnable, what it is)` in place of every Runnable it holds."""
        name = f"route {self.policy.name!r}"
        return Route(
            self.policy,
            target=change(self.target, name),
            fallbacks=[change(fallback, f"fallback of {name}") for fallback in self.fallbacks],
            actions=[action.mapped(change) for action in self.actions],
            tools=self.tools,
            prompt=self.prompt,
        )


class RouteTable(CoreRouteTable[AnyRunnable]):
    """All routes of a router with their Runnables, and the default; what all routers of this package are built on.

    Attributes:
        routes: As given.
        bound: Route name → route, actions and domains alike.
    """

    def __init__(self, routes: Iterable[Route], default: Any) -> None:
        self.routes = tuple(routes)
        for route in self.routes:
            if not isinstance(route, Route):
                raise PolicyError(
                    f"a {type(route).__name__} is no route",
                    hint="write langchain_archroute.Route(name, description, target=…)",
                )
        super().__init__(self.routes, as_runnable(default, "the default"))
        self.bound: Mapping[str, Route] = {
            route.policy.name: route for outer in self.routes for route in (*outer.actions, outer)
        }
        self.targets = {name: route.served_by for name, route in self.bound.items()}

    def mapped(self, change: Callable[[AnyRunnable, str], AnyRunnable]) -> RouteTable:
        """The same routes and default with `change(runnable, what it is)` in place of every Runnable.

        A Runnable that stands in several places is changed once.
        """
        changed: dict[int, AnyRunnable] = {}

        def once(target: AnyRunnable, place: str) -> AnyRunnable:
            if id(target) not in changed:
                changed[id(target)] = change(target, place)
            return changed[id(target)]

        return RouteTable([route.mapped(once) for route in self.routes], once(self.default, "the default"))


def as_runnable(target: Any, place: str) -> AnyRunnable:
    """`target` as a Runnable.

    Raises:
        SettingError: It is none, and LangChain can't make one of it; the message names the `place`, never the target.
    """
    if isinstance(target, Runnable):
        return target
    try:
        runnable: AnyRunnable = coerce_to_runnable(target)
    except TypeError:
        raise SettingError(
            f"the target of {place} is a {type(target).__name__}",
            hint="bind a chat model, a chain or another Runnable; names of models are read by from_yaml",
        ) from None
    return runnable
