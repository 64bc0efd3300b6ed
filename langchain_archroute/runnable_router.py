"""The router as a Runnable: what comes in goes to the target of the policy that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.runnables import ConfigurableFieldSpec, RunnableConfig
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import get_unique_config_specs
from langchain_core.utils.pydantic import TypeBaseModel
from pydantic import ConfigDict, Field, SkipValidation, model_validator

from archroute.conversation import History
from archroute.dispatch import Dispatch
from archroute.router import OnError
from langchain_archroute.arguments import check_arguments
from langchain_archroute.decider import Decider
from langchain_archroute.protocol import aprotocol_stream, protocol_stream
from langchain_archroute.reading import Extract
from langchain_archroute.route import Route, RouteTable
from langchain_archroute.routed_graph import routed_graph
from langchain_archroute.routing import Routing
from langchain_archroute.sessions import Session
from langchain_archroute.tables import Fixed, Tables
from langchain_archroute.versions import Versions


class RunnableRouter(Routing):
    """Sends its input to the target of the policy that fits the conversation in it.

    The target gets the input as it came, and its answer is the router's; a message carries the decision in
    `response_metadata["archroute"]`, with the attempts that were made. When a target fails or takes too long, its route's next one is
    asked, then the default, but never once a part of an answer has been seen. In the trace the decision is a run of its own,
    `ArchRouter.decide`, beside one of each target that was asked.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> router = RunnableRouter(
        ...     routes=[
        ...         Route("tax", "Tax law and returns", target=lambda text: f"tax: {text}"),
        ...         Route("travel", "Planning trips", target=lambda text: f"travel: {text}"),
        ...     ],
        ...     default=lambda text: f"default: {text}",
        ...     model="embedded",
        ... )
        >>> router.invoke("Which flights go to Lisbon on Friday?")
        'travel: Which flights go to Lisbon on Friday?'
        >>> router.decider.invoke("Which flights go to Lisbon on Friday?").route
        'travel'

    Args:
        routes: What the policies are and which Runnable serves each; see `Route`.
        default: The Runnable for what fits no policy, for decisions below `min_confidence`, and for turns whose routing failed.
        model: `"embedded"`, a model hub id, a local directory, or an engine; see `archroute.Router`.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"default"`: a failure while routing sends the turn to the default; `"raise"`: it is raised.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1.
        min_margin: A policy is chosen only if its probability is so far ahead of the next, from 0 to 1.
        dispatch: Remembers sessions, circuits and statistics of turns; see `archroute.dispatch.Dispatch`. None: a new one. Whatever
            is made of this router shares it.
        session: Tells the session of a call from its input and config. None: the config's or the metadata's `thread_id` or
            `session_id`, else what `archroute.dispatch.session` says.
        tables: Where the routes come from anew; `from_yaml(path, reload=True)` gives it.
        extract: The key of the input, or a function of it, that gives the conversation; None reads messages, prompt values and
            strings, and what a mapping has under `messages` or `input`.

    Raises:
        PolicyError: The policies are not valid together.
        SettingError: Another argument is not valid.
        ModelError: The model can't be loaded.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True, protected_namespaces=())

    # Targets hold keys: they appear neither in a repr nor in a dump.
    routes: SkipValidation[Sequence[Route]] = Field(exclude=True, repr=False)
    default: SkipValidation[Any] = Field(exclude=True, repr=False)
    model: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)
    history: SkipValidation[History] = "all"
    on_error: SkipValidation[OnError] = "default"
    min_confidence: SkipValidation[float] = 0.0
    min_margin: SkipValidation[float] = 0.0
    dispatch: SkipValidation[Dispatch | None] = Field(default=None, exclude=True, repr=False)
    session: SkipValidation[Session | None] = Field(default=None, exclude=True, repr=False)
    tables: SkipValidation[Tables | None] = Field(default=None, exclude=True, repr=False)
    extract: SkipValidation[Extract | None] = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: Any) -> Any:
        return check_arguments(cls, values)

    def model_post_init(self, context: Any, /) -> None:
        """Bind the routes and load the model."""
        self._versions = Versions(self.tables or Fixed(RouteTable(self.routes, self.default)), self._decider_of)
        self._dispatch = Dispatch() if self.dispatch is None else self.dispatch
        self._session = self.session
        # A copy of this router shares both.
        self.dispatch = self._dispatch
        self.model = self._versions.current().decider.router.engine

    def _decider_of(self, table: RouteTable) -> Decider:
        return Decider.of(
            table.policies,
            model=self.model,
            history=self.history,
            min_confidence=self.min_confidence,
            min_margin=self.min_margin,
            on_error=self.on_error,
            extract=self.extract,
        )

    def stream_events(
        self, input: Any, config: RunnableConfig | None = None, *, version: str = "v2", **kwargs: Any
    ) -> Any:
        """With `version="v3"`, a `ChatModelStream` of the target's answer; the targets must be chat models."""
        if version == "v3":
            return protocol_stream(self.stream(input, config, **kwargs))
        return super().stream_events(input, config, version=cast(Any, version), **kwargs)

    def astream_events(
        self, input: Any, config: RunnableConfig | None = None, *, version: str = "v2", **kwargs: Any
    ) -> Any:
        """The events of all runs; with `version="v3"`, to await, an `AsyncChatModelStream` of the target's answer."""
        if version == "v3":
            return aprotocol_stream(self.astream(input, config, **kwargs))
        return super().astream_events(input, config, version=cast(Any, version), **kwargs)

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The default's: every target takes the same input."""
        return self._table.default.target.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The default's."""
        return self._table.default.target.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Every target's."""
        return get_unique_config_specs(spec for target in self._table.serving_targets for spec in target.config_specs)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The router with a conditional edge to every target."""
        return routed_graph(self, self._table, config)

    @property
    def _table(self) -> RouteTable:
        return self._versions.current().table
