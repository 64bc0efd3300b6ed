"""What LangChain tells of a target: its name, what it can take, the tokens that it took."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.configurable import DynamicRunnable

from archroute.observe import Usage
from archroute.serving import ModelInfo


def described(target: Runnable[Any, Any]) -> tuple[str, ModelInfo]:
    """The name that traces and statistics give a target, and what its profile says it takes.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> described(FakeListChatModel(responses=["hello"], profile={"image_inputs": False}).with_config(tags=["mine"]))
        ('FakeListChatModel', ModelInfo(images=False, tools=None, context=None, input_price=None, output_price=None))
    """
    model, arguments = _unwrapped(target)
    profile = getattr(model, "profile", None) if isinstance(model, BaseChatModel) else None
    if not isinstance(profile, Mapping):
        profile = {}
    info = ModelInfo(
        images=profile.get("image_inputs"), tools=profile.get("tool_calling"), context=profile.get("max_input_tokens")
    )
    return _model_name(model, arguments) or target.get_name(), info


def binds_tools(target: Runnable[Any, Any]) -> bool:
    """Whether a target calls a model with tools bound to it, as chat models do for structured output too."""
    if isinstance(target, RunnableSequence):
        return any(map(binds_tools, target.steps))
    return bool(_unwrapped(target)[1].get("tools"))


def usage_of(answer: Any) -> Usage | None:
    """The tokens that an answer says it took: a message's, a mapping's raw message's, or an agent's model response's."""
    message = answer.get("raw") if isinstance(answer, Mapping) else answer
    if result := getattr(answer, "result", None):
        message = result[0]
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    if usage is None:
        return None
    return Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])


class GraphSignals:
    """LangGraph's own exceptions, interrupts among them; none before LangGraph is loaded, for nobody can raise them then."""

    def __get__(self, table: object, kind: type) -> tuple[type[Exception], ...]:
        signal = getattr(sys.modules.get("langgraph.errors"), "GraphBubbleUp", None)
        return () if signal is None else (signal,)


def _unwrapped(target: Any) -> tuple[Any, dict[str, Any]]:
    """What LangChain's wrappers hold, and the arguments that they call it with."""
    arguments: dict[str, Any] = {}
    while True:
        if isinstance(target, RunnableBinding):
            arguments = {**target.kwargs, **arguments}
            target = target.bound
        elif isinstance(target, RunnableWithFallbacks):
            target = target.runnable
        elif isinstance(target, DynamicRunnable):
            target = target.default
        else:
            return target, arguments


def _model_name(model: Any, arguments: dict[str, Any]) -> str | None:
    """What the model that answers calls itself; a router's own name says nothing of that."""
    if not isinstance(model, BaseLanguageModel):
        return None
    told = model._get_ls_params(**arguments)
    if told.get("ls_provider") == "archroute":
        return None
    for name in (told.get("ls_model_name"), getattr(model, "model_name", None), getattr(model, "model", None)):
        if isinstance(name, str) and name:
            return name
    return None
