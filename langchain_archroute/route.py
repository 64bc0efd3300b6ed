"""Policies bound to Runnables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

from langchain_core.messages import SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable

from archroute.dispatch import Model
from archroute.dispatch import Route as CoreRoute
from archroute.dispatch import RouteTable as CoreRouteTable
from archroute.errors import PolicyError, SettingError
from archroute.observe import Usage
from archroute.policy import Policy
from archroute.serving import ModelInfo, OnFailure
from langchain_archroute.targets import GraphSignals, binds_tools, described, usage_of

AnyRunnable = Runnable[Any, Any]
"""A target: a chat model, a chain, an agent, a retriever chain."""


class Route(CoreRoute[Any]):
    """A policy, bound to the Runnable that serves it.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> Route("tax", "Tax law and returns", target=RunnableLambda(str.upper), fallbacks=[str.lower], timeout=10)
        Route('tax', target=RunnableLambda)

    Args:
        name: The policy's name, or a `Policy`.
        description: The policy's description, if `name` is not a policy.
        target: A Runnable, or what LangChain makes one of: a function, or a mapping of Runnables; a `Model` that names one, or a
            `Split` of several.
        fallbacks: Tried in order when the target fails or takes too long.
        shadows: Asked beside the one that serves; their answers are dropped, their time and errors recorded.
        timeout: Seconds until an answer, or the first chunk of a streamed one, must be there; then the next target is tried.
        min_confidence: This route's own, instead of the router's.
        on_failure: `"default"`: when all of these have failed, the router's default serves; `"raise"`: the last error is raised.
        actions: Routes of a domain's actions; the route itself is then the domain, and serves what fits none of them.
        tools: For `ArchRouterMiddleware` alone: the tools this route's model sees, by name or as objects; None: the agent's.
        prompt: For `ArchRouterMiddleware` alone: the system prompt of this route, instead of the agent's.

    Raises:
        PolicyError: The policy or a setting is not valid.
        SettingError: A target is no Runnable.
    """

    def __init__(
        self,
        name: str | Policy,
        description: str | None = None,
        *,
        target: Any,
        fallbacks: Iterable[Any] = (),
        shadows: Iterable[Any] = (),
        timeout: float | None = None,
        min_confidence: float | None = None,
        on_failure: OnFailure = "default",
        actions: Iterable[Route] = (),
        tools: Sequence[Any] | None = None,
        prompt: str | SystemMessage | None = None,
    ) -> None:
        super().__init__(
            name,
            description,
            target=target,
            fallbacks=fallbacks,
            shadows=shadows,
            timeout=timeout,
            min_confidence=min_confidence,
            on_failure=on_failure,
            actions=actions,
        )
        self.mapped(cast(Any, as_runnable))  # refuses now what is no target
        self.tools = None if tools is None else tuple(tools)
        self.prompt = SystemMessage(prompt) if isinstance(prompt, str) else prompt


class RouteTable(CoreRouteTable[AnyRunnable]):
    """All routes of a router with their Runnables, and the default; what all routers of this package are built on."""

    signals = cast(Any, GraphSignals())
    usages_add_up: ClassVar[bool] = True  # so that chunks can be added up, whatever the provider does

    bound: Mapping[str, Route]

    def __init__(self, routes: Iterable[Route], default: Any) -> None:
        routes = tuple(routes)
        for route in routes:
            if not isinstance(route, Route):
                raise PolicyError(
                    f"a {type(route).__name__} is no route",
                    hint="write langchain_archroute.Route(name, description, target=…)",
                )
        made: dict[int, Any] = {}

        def once(given: Any, place: str) -> Any:
            """An object that stands in several places stays one."""
            target = given.target if isinstance(given, Model) else given
            if id(target) not in made:
                made[id(target)] = as_runnable(target, place)
            runnable = made[id(target)]
            return given.mapped(lambda _: runnable) if isinstance(given, Model) else runnable

        super().__init__([route.mapped(once) for route in routes], once(default, "the default"))

    def describe(self, target: AnyRunnable) -> tuple[str, ModelInfo]:
        """The name and the abilities of a Runnable that nobody named."""
        return described(target)

    def usage_of(self, answer: Any) -> Usage | None:
        """The tokens that an answer, or a chunk of one, says it took."""
        return usage_of(answer)

    @cached_property
    def serving_targets(self) -> list[AnyRunnable]:
        """Every Runnable whose answer may be the router's."""
        served = {id(model): model.target for name in self.bound for model in self.members(name)}
        return [*{**served, id(self.default): self.default.target}.values()]

    @cached_property
    def binds_tools(self) -> bool:
        """Whether tools are bound to everything that may serve, so that a request is one to call tools."""
        return all(map(binds_tools, self.serving_targets))


def as_runnable(target: Any, place: str) -> Any:
    """`target` as a Runnable; a `Model` over one.

    Raises:
        SettingError: It is none, and LangChain can't make one of it; the message names the `place`, never the target.
    """
    if isinstance(target, Model):
        return target.mapped(lambda held: as_runnable(held, place))
    if isinstance(target, Runnable):
        return target
    try:
        return coerce_to_runnable(target)
    except TypeError:
        raise SettingError(
            f"the target of {place} is a {type(target).__name__}",
            hint="bind a chat model, a chain or another Runnable; names of models are read by from_yaml",
        ) from None


Change = Callable[[AnyRunnable, str], AnyRunnable]
"""Makes of a Runnable, and what it is called in messages, another."""
