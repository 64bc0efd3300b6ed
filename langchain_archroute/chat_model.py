"""The router as a chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig
from langchain_core.runnables.graph import Graph
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SkipValidation, model_validator

from archroute.conversation import History
from archroute.dispatch import Dispatch
from archroute.router import OnError
from langchain_archroute.arguments import check_arguments
from langchain_archroute.capabilities import bound_to, common_profile, structured
from langchain_archroute.controls import Controls
from langchain_archroute.model_runs import child_config, given, own_config
from langchain_archroute.route import Change, Route
from langchain_archroute.routed_graph import routed_graph
from langchain_archroute.runnable_router import RunnableRouter
from langchain_archroute.serving import ended
from langchain_archroute.sessions import Session
from langchain_archroute.tables import Mapped, Tables
from langchain_archroute.versions import Versions

# What code that builds any chat model passes; every target has been built with its own.
_IGNORED = frozenset({"temperature", "max_tokens", "timeout", "stop", "max_retries", "api_key", "streaming"})
_SHARED = (
    "history",
    "on_error",
    "min_confidence",
    "min_margin",
    "dispatch",
    "session",
    "tables",
)  # with RunnableRouter


class ArchRouterChatModel(Controls, BaseChatModel):
    """A chat model that lets the chat model bound to the fitting policy answer.

    It goes wherever a chat model goes. Its runs are chain runs, the decision and the target's own chat model run their children, so
    that a token is told once and usage is counted once. Tools and schemas are bound to every target. The decision is on the
    answer, in `response_metadata["archroute"]`, with the attempts that were made; of a stream, on the first chunk. An agent's loop over
    tools goes on with the target that began it.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model = ArchRouterChatModel(
        ...     routes=[
        ...         Route("tax", "Tax law and returns", target=FakeListChatModel(responses=["a tax answer"])),
        ...         Route("travel", "Planning trips", target=FakeListChatModel(responses=["a travel answer"])),
        ...     ],
        ...     default=FakeListChatModel(responses=["some answer"]),
        ...     model="embedded",
        ... )
        >>> answer = model.invoke("Which flights go to Lisbon on Friday?")
        >>> answer.text, answer.response_metadata["archroute"]["route"]
        ('a travel answer', 'travel')

    Args:
        routes: What the policies are and which chat model serves each; see `Route`.
        default: The chat model for what fits no policy, for decisions below `min_confidence`, and for turns whose routing failed.
        model: `"embedded"`, a model hub id, a local directory, or an engine; see `archroute.Router`. Kept as `routed_by`.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"default"`: a failure while routing sends the turn to the default; `"raise"`: it is raised.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1.
        min_margin: A policy is chosen only if its probability is so far ahead of the next, from 0 to 1.
        dispatch: Remembers sessions, circuits and statistics of turns; see `archroute.dispatch.Dispatch`. None: a new one. Whatever
            is made of this model, by `bind_tools` say, shares it.
        session: Tells the session of a call from its input and config. None: the config's or the metadata's `thread_id` or
            `session_id`, else what `archroute.dispatch.session` says.
        tables: Where the routes come from anew; `from_yaml(path, reload=True)` gives it.

    `temperature`, `max_tokens`, `timeout`, `stop`, `max_retries`, `api_key` and `streaming` are taken and ignored: they are the
    targets' own.

    Raises:
        PolicyError: The policies are not valid together.
        SettingError: Another argument is not valid.
        ModelError: The model can't be loaded.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, hide_input_in_errors=True, populate_by_name=True, protected_namespaces=()
    )

    # Targets hold keys: they appear neither in a repr nor in a dump.
    routes: SkipValidation[Sequence[Route]] = Field(exclude=True, repr=False)
    default: SkipValidation[Any] = Field(exclude=True, repr=False)
    # Not an attribute `model`: agents take that for the name of the model that answers, and guess what it can do.
    routed_by: SkipValidation[Any] = Field(default=None, alias="model", exclude=True, repr=False)
    history: SkipValidation[History] = "all"
    on_error: SkipValidation[OnError] = "default"
    min_confidence: SkipValidation[float] = 0.0
    min_margin: SkipValidation[float] = 0.0
    dispatch: SkipValidation[Dispatch | None] = Field(default=None, exclude=True, repr=False)
    session: SkipValidation[Session | None] = Field(default=None, exclude=True, repr=False)
    tables: SkipValidation[Tables | None] = Field(default=None, exclude=True, repr=False)
    cache: Any = Field(default=False, exclude=True)
    """Off: an answer kept here would outlive a change of the targets. Each target has its own."""

    _router: RunnableRouter = PrivateAttr()
    _versions: Versions = PrivateAttr()
    _dispatch: Dispatch = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: Any) -> Any:
        return check_arguments(cls, values, ignored=_IGNORED)

    def model_post_init(self, context: Any, /) -> None:
        """Bind the routes and load the model."""
        super().model_post_init(context)
        self._router = RunnableRouter(
            routes=self.routes,
            default=self.default,
            model=self.routed_by,
            name=self.get_name(),
            **{name: getattr(self, name) for name in _SHARED},
        )
        # What is made of this model shares both.
        self.routed_by, self.dispatch = self._router.model, self._router.dispatch
        self._versions, self._dispatch = self._router._versions, self._router._dispatch

    # Calls: the Runnable router's, under this name

    def invoke(  # noqa: D102 - the base class says it
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        return cast(AIMessage, self._router.invoke(input, own_config(self, config), **given(kwargs)))

    async def ainvoke(  # noqa: D102
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        return cast(AIMessage, await self._router.ainvoke(input, own_config(self, config), **given(kwargs)))

    def stream(  # noqa: D102
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        if self.disable_streaming is True:
            yield cast(AIMessageChunk, self.invoke(input, config, **kwargs))
        else:
            yield from self._router.stream(input, own_config(self, config), **given(kwargs))

    async def astream(  # noqa: D102
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        if self.disable_streaming is True:
            yield cast(AIMessageChunk, await self.ainvoke(input, config, **kwargs))
        else:
            async with ended(self._router.astream(input, own_config(self, config), **given(kwargs))) as chunks:
                async for chunk in chunks:
                    yield chunk

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:  # noqa: D102
        return self._router.batch(inputs, own_config(self, config), **given(kwargs))

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:  # noqa: D102
        return await self._router.abatch(inputs, own_config(self, config), **given(kwargs))

    def batch_as_completed(  # noqa: D102
        self, inputs: Sequence[Any], config: Any = None, **kwargs: Any
    ) -> Iterator[tuple[int, Any]]:
        yield from self._router.batch_as_completed(inputs, own_config(self, config), **given(kwargs))

    async def abatch_as_completed(  # noqa: D102
        self, inputs: Sequence[Any], config: Any = None, **kwargs: Any
    ) -> AsyncIterator[tuple[int, Any]]:
        async for answer in self._router.abatch_as_completed(inputs, own_config(self, config), **given(kwargs)):
            yield answer

    def stream_events(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: D102
        return self._router.stream_events(input, own_config(self, config), **given(kwargs))

    def astream_events(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: D102
        return self._router.astream_events(input, own_config(self, config), **given(kwargs))

    # `generate` and `generate_prompt`, which are not Runnable's, come here with a chat model run of their own

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._router.invoke(messages, child_config(run_manager), **given({**kwargs, "stop": stop}))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await self._router.ainvoke(messages, child_config(run_manager), **given({**kwargs, "stop": stop}))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    # What the targets can do

    # The return type is read by RunnableWithFallbacks, which without it drops the fallbacks.
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind the tools to every target.

        Raises:
            SettingError: A target takes no tools; the message names its route.
        """
        own = {name: getattr(self, name) for name in self.model_fields_set}
        change = bound_to(tools, given({**kwargs, "tool_choice": tool_choice}))
        return type(self)(**{**own, **self._mapped(change)}).bind()

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """A router between every target's own structured output, native where a target has it.

        Raises:
            SettingError: A target has no structured output; the message names its route.
        """
        own = {name: getattr(self, name) for name in ("name", *_SHARED)}
        change = structured(schema, {**kwargs, "include_raw": include_raw})
        return RunnableRouter(**{**own, "model": self.routed_by, **self._mapped(change)})

    def _mapped(self, change: Change) -> dict[str, Any]:
        """The arguments of a router over changed targets, which goes on to be read anew if this one is."""
        if self.tables is None:
            table = self._router._table.mapped(change)
            return {"routes": table.routes, "default": table.default}
        tables = Mapped(self.tables, change)
        return {"routes": tables.current().routes, "default": tables.current().default, "tables": tables}

    def _resolve_model_profile(self) -> Any:
        return common_profile(self._router._table.serving_targets)

    # What a chat model tells of itself

    @property
    def _llm_type(self) -> str:
        return "archroute"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        policies = {policy.name: policy.description for policy in self._router._table.policies}
        return {"policies": policies, "routed_by": self.routed_by.name, "history": self.history}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        model = kwargs.get("model")  # a caller's word for the target to come, if it gives one
        name = model if isinstance(model, str) else self.routed_by.name
        named = LangSmithParams(ls_provider="archroute", ls_model_name=name, ls_model_type="chat")
        return LangSmithParams(**named, ls_stop=stop) if stop else named

    def get_token_ids(self, text: str) -> list[int]:
        """The default's: which target will read the text isn't known yet."""
        count = getattr(self._router._table.default.target, "get_token_ids", super().get_token_ids)
        return cast(list[int], count(text))

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        """The default's."""
        count = getattr(
            self._router._table.default.target, "get_num_tokens_from_messages", super().get_num_tokens_from_messages
        )
        return cast(int, count(messages, tools))

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Every target's."""
        return self._router.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The router with a conditional edge to every target."""
        return routed_graph(self, self._router._table, config)
