"""The routed LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import LLM

from archroute import PolicySet, Router, SettingError
from archroute.conversation import History
from archroute.dispatch import Dispatch, Model, Route
from archroute.engines.base import Engine
from archroute.reload import Reloaded
from archroute.router import OnError
from llamaindex_archroute.loading import Binder, Targets
from llamaindex_archroute.prompts import PromptMethods
from llamaindex_archroute.routing import Bound
from llamaindex_archroute.session import SessionSource, check_session
from llamaindex_archroute.table import LLMTable

_LOOK = 1.0  # seconds between two looks at a policy file


class ArchRouterLLM(PromptMethods):
    """An LLM that is several: every user turn goes to the one whose policy fits it.

    Stands wherever LlamaIndex takes an LLM: agents, workflows, chat engines, query engines, `Settings.llm`. Every call goes to the
    target's own method, with its tools, its structured output and its events. When a target fails or can't take the call, the
    route's next one serves, then the default; of a stream, up to its first piece. An agent's loop over tools stays with the target
    that began the turn. Responses carry the decision, with all attempts, in `additional_kwargs["archroute"]`. System prompts and
    output parsers belong to the targets.

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
        routes: Policies, each bound to an LLM object, to a `Model` that names it, or to a `Split` of several; see `Route`.
        default: The LLM for what fits no policy, for decisions that are not sure enough, and for failures while routing.
        model: As for `archroute.Router`.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1.
        min_margin: A policy is chosen only if its probability is so far ahead of the next, from 0 to 1.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"default"`, or `"raise"`: what a failure while routing does. What a target's failure does is the route's to say.
        dispatch: Sessions, circuits, shadows and observers; several routers may share one. None: one of this router's own.
        session: Which session a call belongs to; see `llamaindex_archroute.session.SessionSource`.
        callback_manager: Handed on to the targets, but not to shadows.

    Raises:
        PolicyError: The policies are not valid.
        SettingError: A target is no LLM, or another argument is not valid.
        ModelError: The router's model can't be loaded.
    """

    def __init__(
        self,
        routes: Iterable[Route[LLM]],
        default: LLM | Model[LLM],
        *,
        model: str | Path | Engine | None = None,
        min_confidence: float = 0.0,
        min_margin: float = 0.0,
        history: History = "all",
        on_error: OnError = "default",
        dispatch: Dispatch | None = None,
        session: SessionSource = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        table = LLMTable(routes, default)
        super().__init__(callback_manager=callback_manager or CallbackManager([]))
        self._settings = {
            "model": model,
            "min_confidence": min_confidence,
            "min_margin": min_margin,
            "history": history,
            "on_error": on_error,
        }
        self._bound = Bound(Router(table.policies, **self._settings), table)
        self._dispatch, self._session = dispatch or Dispatch(), check_session(session)
        if callback_manager is not None:
            self._share_callbacks(table)

    @classmethod
    def class_name(cls) -> str:
        """The name that serialised forms and traces know the router by."""
        return "ArchRouterLLM"

    @classmethod
    def from_yaml(
        cls,
        source: str | Path | PolicySet,
        targets: Targets,
        *,
        default: LLM | None = None,
        reload: bool = False,
        **settings: Any,
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
            default: The LLM for what fits no policy; None: the one the file names.
            reload: Whether the file is looked at once a second and read anew when it has changed, and by `router.reload()`; one that
                is not valid changes nothing, and the log says so.
            **settings: The other arguments of the router.

        Raises:
            FileFormatError: The file can't be read; the message names the line and the field.
            PolicyError: A route has no model, a model is not among the targets, or there is no default.
            SettingError: `reload` is asked for, and there is no file.
        """
        bind = Binder(targets, default)
        router = cls(*bind(source if isinstance(source, PolicySet) else PolicySet.from_yaml(source)), **settings)
        if reload:
            if isinstance(source, PolicySet) or (isinstance(source, str) and "\n" in source):
                raise SettingError("reload=True without a file", hint="give the file's path")
            router._follow(source, bind)
        return router

    def bind(self, targets: Mapping[str, LLM], default: LLM) -> Self:
        """A router of the same policies and settings over other targets, which keep their own callbacks.

        Args:
            targets: Route name → target; a route that is left out goes to the default.
            default: The target for what fits none.

        Raises:
            SettingError: There is no such route.
        """
        bound = self._now()
        names = [route.name for route in bound.router.policies]
        unknown = sorted(set(targets) - set(names))
        if unknown:
            raise SettingError(f"there is no route {', '.join(unknown)}", hint="check the spelling")
        bind = Binder({name: targets.get(name, default) for name in names}, default)
        settings = self._settings | {"model": bound.router.engine}
        return type(self)(*bind(bound.router.policies), **settings, dispatch=self._dispatch, session=self._session)

    def _follow(self, file: str | Path, bind: Binder) -> None:
        """Take policies and targets from a file from now on."""
        settings = self._settings | {"model": self._bound.router.engine}

        def build(policies: PolicySet) -> Bound:
            table = LLMTable(*bind(policies))
            if self.callback_manager.handlers:
                self._share_callbacks(table)
            return Bound(Router(table.policies, **settings), table)

        self._file = Reloaded(file, build, every=_LOOK)
