"""The routed LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import LLM

from archroute import PolicySet, SettingError
from archroute.conversation import History
from archroute.dispatch import Route, RouteTable
from archroute.engines.base import Engine
from archroute.router import OnError
from llamaindex_archroute.binding import Targets, bind_file, bind_routes
from llamaindex_archroute.prompts import PromptMethods


class ArchRouterLLM(PromptMethods):
    """An LLM that is several: every user turn goes to the one whose policy fits it.

    Stands wherever LlamaIndex takes an LLM: agents, workflows, chat engines, query engines, `Settings.llm`. Every call goes to the
    chosen target's own method, with its tools, its structured output and its events. An agent's loop over tools stays with the
    target that began the turn. Responses carry the decision in `additional_kwargs["archroute"]`. System prompts and output parsers
    belong to the targets.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> router = ArchRouterLLM(
        ...     [Route("tax", "Tax law and returns", target=MockLLM()), Route("travel", "Planning trips", target=MockLLM())],
        ...     default=MockLLM(),
        ...     model="embedded",
        ... )
        >>> router.complete("Which flights go to Lisbon on Friday?").additional_kwargs["archroute"]["route"]
        'travel'

    Args:
        routes: Policies, each bound to an LLM object.
        default: The LLM for what fits no policy, for decisions that are not sure enough, and for failures while routing.
        model: As for `archroute.Router`.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"default"`, or `"raise"`: what a failure while routing does. A target's own failure is always raised.
        callback_manager: Handed on to the targets.

    Raises:
        PolicyError: The policies are not valid.
        SettingError: A target is no LLM, or another argument is not valid.
        ModelError: The router's model can't be loaded.
    """

    def __init__(
        self,
        routes: Iterable[Route[LLM]],
        default: LLM,
        *,
        model: str | Path | Engine | None = None,
        min_confidence: float = 0.0,
        history: History = "all",
        on_error: OnError = "default",
        callback_manager: CallbackManager | None = None,
    ) -> None:
        table = RouteTable(routes, default)
        bound = {f"route {name!r}": target for name, target in table.targets.items()} | {"default": default}
        for name, target in bound.items():
            if not isinstance(target, LLM):
                raise SettingError(f"the target of {name} is a {type(target).__name__}", hint="bind LlamaIndex LLMs")
        super().__init__(callback_manager=callback_manager or CallbackManager([]))
        settings = {"model": model, "min_confidence": min_confidence, "history": history, "on_error": on_error}
        self._set_up(table.policies, settings, table)
        if callback_manager is not None:
            self._share_callbacks()

    @classmethod
    def class_name(cls) -> str:
        """The name that serialised forms and traces know the router by."""
        return "ArchRouterLLM"

    @classmethod
    def from_yaml(
        cls, source: str | Path | PolicySet, targets: Targets, *, default: LLM | None = None, **settings: Any
    ) -> Self:
        """The router of a policy file, or of a Plano configuration; see `archroute.policy_file`.

        Example:
            >>> from llama_index.core.llms import MockLLM
            >>> text = '''
            ... policies:
            ...   - {name: tax, description: Tax law and returns, model: "openai:gpt-5"}
            ... default: small
            ... '''
            >>> ArchRouterLLM.from_yaml(text, {"openai:gpt-5": MockLLM(), "small": MockLLM()}, model="embedded")
            ArchRouterLLM(routes=['tax'], model='archroute-embedded')

        Args:
            source: The file, its text of more than one line, or policies read already.
            targets: LLM objects by the names that the file gives to models, or by names of routes; or a function of a model's name.
                Each route goes to the first of its models.
            default: The LLM for what fits no policy; None: the one the file names.
            **settings: The other arguments of the router.

        Raises:
            FileFormatError: The file can't be read; the message names the line and the field.
            PolicyError: A route has no model, a model is not among the targets, or there is no default.
        """
        policies = source if isinstance(source, PolicySet) else PolicySet.from_yaml(source)
        routes, bound_default = bind_file(policies, targets, default)
        return cls(routes, bound_default, **settings)

    def bind(self, targets: Mapping[str, LLM], default: LLM) -> Self:
        """A router of the same policies and settings over other targets, which keep their own callbacks.

        Args:
            targets: Route name → target; a route that is left out goes to the default.
            default: The target for what fits none.

        Raises:
            SettingError: There is no such route.
        """
        unknown = sorted(set(targets) - {route.name for route in self.policies})
        if unknown:
            raise SettingError(f"there is no route {', '.join(unknown)}", hint="check the spelling")
        routes = bind_routes(self.policies, lambda route: targets.get(route, default))
        settings = self._settings | {"model": self._router.engine}
        return type(self)(routes, default, **settings)
