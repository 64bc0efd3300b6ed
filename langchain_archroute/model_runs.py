"""The configs and arguments that a chat model's runs start with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs


def own_config(model: BaseChatModel, config: Any) -> Any:
    """`config`, or each of several, with what the model was built with: its callbacks, tags and metadata."""
    own = RunnableConfig()
    if model.callbacks:
        own["callbacks"] = model.callbacks
    if model.tags:
        own["tags"] = model.tags
    if model.metadata:
        own["metadata"] = model.metadata
    if not own:
        return config
    if isinstance(config, Sequence):
        return [merge_configs(own, one) for one in config]
    return merge_configs(own, config)


def child_config(run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> RunnableConfig:
    """The config of a run below a chat model's, whose managers, unlike a chain's, have no `get_child`."""
    if run_manager is None:
        return RunnableConfig()
    kind = AsyncCallbackManager if isinstance(run_manager, AsyncCallbackManagerForLLMRun) else CallbackManager
    manager = kind(handlers=[], parent_run_id=run_manager.run_id)
    manager.set_handlers(run_manager.inheritable_handlers)
    manager.add_tags(run_manager.inheritable_tags)
    # What LangSmith is told of the router's run isn't true of the target's.
    told = {key: value for key, value in run_manager.inheritable_metadata.items() if not key.startswith("ls_")}
    manager.add_metadata(told)
    return RunnableConfig(callbacks=manager)


def given(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments a caller gave; targets may know neither `stop` nor `tool_choice`, nor take None for them."""
    return {name: value for name, value in kwargs.items() if value is not None or name not in ("stop", "tool_choice")}
