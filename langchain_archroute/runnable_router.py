"""The router as a Runnable: what comes in goes to the target of the policy that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import get_unique_config_specs
from langchain_core.utils.pydantic import TypeBaseModel
from pydantic import ConfigDict, Field, SkipValidation, model_validator

from archroute.conversation import History
from archroute.policy import PolicySet
from archroute.router import OnError
from langchain_archroute.arguments import check_arguments
from langchain_archroute.decider import Decider
from langchain_archroute.loading import Targets, read_routes
from langchain_archroute.protocol import aprotocol_stream, protocol_stream
from langchain_archroute.reading import Extract
from langchain_archroute.route import Route, RouteTable
from langchain_archroute.routed_graph import routed_graph
from langchain_archroute.routing import Routing


class RunnableRouter(Routing):
    """Sends its input to the target of the policy that fits the conversation in it.

    The target gets the input as it came, and its answer is the router's; a message carries the decision in
    `response_metadata["archroute"]`. In the trace the decision is a run of its own, `ArchRouter.decide`, beside the target's.

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
    extract: SkipValidation[Extract | None] = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: Any) -> Any:
        return check_arguments(cls, values)

    def model_post_init(self, context: Any, /) -> None:
        """Bind the routes and load the model."""
        self._table = RouteTable(self.routes, self.default)
        self._decider = Decider.of(
            self._table.policies,
            model=self.model,
            history=self.history,
            min_confidence=self.min_confidence,
            on_error=self.on_error,
            extract=self.extract,
        )
        self.model = self._decider.router.engine  # a copy of this router decides with the same one

    @classmethod
    def from_yaml(
        cls,
        source: str | Path | PolicySet,
        *,
        targets: Targets | None = None,
        default: Any = None,
        **settings: Any,
    ) -> Self:
        """A router from a policy file or a Plano configuration.

        Args:
            source: The file, its text, or policies read already.
            targets: Names of models or of routes with the Runnables that stand for them; other models are made by LangChain's
                `init_chat_model`.
            default: As in the class; None: the model that the file names.
            settings: The other arguments of the class.

        Raises:
            FileFormatError: The file can't be read.
            PolicyError: A route has no model, or there is no default.
        """
        routes, served = read_routes(source, targets, default)
        return cls(routes=routes, default=served, **settings)

    @property
    def decider(self) -> Decider:
        """The decision alone, as a Runnable of its own, for LangGraph's conditional edges too; see `Decider`."""
        return self._decider

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
        return self._table.default.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The default's."""
        return self._table.default.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Every target's."""
        return get_unique_config_specs(spec for target in self._targets() for spec in target.config_specs)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The router with a conditional edge to every target."""
        return routed_graph(self, self._table, config)

    def _targets(self) -> list[Runnable[Any, Any]]:
        return [*self._table.targets.values(), self._table.default]
