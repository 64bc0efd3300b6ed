"""Who hears of a target while it runs: listeners to its tokens, or, of a shadow, nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langchain_core.tracers.context import _configure_hooks, tracing_v2_callback_var
from langsmith.run_helpers import tracing_context

from archroute.dispatch import Turn

_Manager = TypeVar("_Manager", bound=BaseCallbackManager)
_TOLD = ("on_llm_new_token", "on_stream_event")  # before 1.8 there is the first alone
_SILENT = {getattr(kind, told, None) for kind in (BaseCallbackHandler, AsyncCallbackHandler) for told in _TOLD}


class Watch(BaseCallbackHandler):
    """Watches one target's attempt whose tokens go to somebody as they come: LangGraph's `stream_mode="messages"`, say.

    After the first one, no other target may serve; and one that was given up, because it took too long, says nothing more, or, where
    its own callbacks come before, hardly more than a token.
    """

    run_inline = True
    raise_error = True

    def __init__(self, turn: Turn[Any]) -> None:
        self._turn, self._number = turn, len(turn.attempts)

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        """A token is about to be told."""
        attempts = self._turn.attempts
        if len(attempts) > self._number and attempts[self._number].outcome != "served":
            raise TimeoutError("this target was given up")
        self._turn.told()

    def on_stream_event(self, *_: Any, **__: Any) -> None:
        """An event of the third streaming protocol is about to be told."""
        self.on_llm_new_token()

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Nothing; LangChain would put the messages into a string if this were not here."""


def watched(callbacks: _Manager, turn: Turn[Any]) -> _Manager:
    """A run's callbacks, with a `Watch` before them if one of them is told tokens."""
    if any(map(_hears_tokens, callbacks.handlers)):
        callbacks.handlers = [Watch(turn), *callbacks.handlers]
        callbacks.inheritable_handlers = [callbacks.handlers[0], *callbacks.inheritable_handlers]
    return callbacks


@contextmanager
def unheard() -> Iterator[None]:
    """A shadow runs inside, in a context of its own: what would tell of its runs is taken out, so that no trace or stream has them."""
    var_child_runnable_config.set(None)
    tracing_v2_callback_var.set(None)
    for hook, *_ in _configure_hooks:
        hook.set(None)
    with tracing_context(enabled=False):
        yield


def _hears_tokens(handler: BaseCallbackHandler) -> bool:
    """Whether a handler does something with tokens; tracers keep them to themselves."""
    if isinstance(handler, BaseTracer | AsyncBaseTracer):
        return False
    return any(getattr(type(handler), told, None) not in _SILENT for told in _TOLD)
