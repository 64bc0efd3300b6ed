"""Tool calling: each call goes to the chosen target's own method, and so does the reading of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen, ChatResponseGen
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index_instrumentation import get_dispatcher

from archroute import SettingError
from archroute.dispatch import Turn
from llamaindex_archroute.chat import ChatMethods
from llamaindex_archroute.notes import read_note
from llamaindex_archroute.reading import Call
from llamaindex_archroute.routing import PINNED
from llamaindex_archroute.serving import aanswer, answer, astream, stream

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

dispatcher = get_dispatcher(__name__)
UserMessage = str | ChatMessage | None
ChatHistory = list[ChatMessage] | None


class ToolMethods(ChatMethods):
    """The methods of function-calling LLMs.

    `predict_and_call` is LlamaIndex's own over these: the tools' effects are not a target's, and no failover repeats them.
    """

    @dispatcher.span
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> ChatResponse:
        """The target's answer or tool calls."""
        turn, talk = self._begin(_call(user_msg, chat_history)), _Talk(tools, user_msg, chat_history)
        return answer(turn, lambda llm: _able(llm, turn).chat_with_tools(*talk.copied(), *args, **kwargs))

    @dispatcher.span
    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> ChatResponse:
        """`chat_with_tools`, asynchronous."""
        turn, talk = await self._abegin(_call(user_msg, chat_history)), _Talk(tools, user_msg, chat_history)
        return await aanswer(turn, lambda llm: _able(llm, turn).achat_with_tools(*talk.copied(), *args, **kwargs))

    @dispatcher.span
    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> ChatResponseGen:
        """`chat_with_tools`, streamed."""
        turn, talk = self._begin(_call(user_msg, chat_history)), _Talk(tools, user_msg, chat_history)
        return stream(turn, lambda llm: _able(llm, turn).stream_chat_with_tools(*talk.copied(), *args, **kwargs))

    @dispatcher.span
    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        """`stream_chat_with_tools`, asynchronous."""
        turn, talk = await self._abegin(_call(user_msg, chat_history)), _Talk(tools, user_msg, chat_history)
        return await astream(
            turn, lambda llm: _able(llm, turn).astream_chat_with_tools(*talk.copied(), *args, **kwargs)
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls in a response, read by the target that gave it.

        Raises:
            SettingError: No target can call tools.
        """
        name, given = read_note(response)
        table = self._table()
        model = table.named(name) if name else None
        for target in [model.target] if model else table.llms.values():
            if isinstance(target, FunctionCallingLLM):
                return target.get_tool_calls_from_response(given, error_on_no_tool_call=error_on_no_tool_call, **kwargs)
        raise SettingError("no target can call tools", hint="bind function-calling LLMs")

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # What is prepared is in the form of one provider: the call that is made of it can't fail over.
        turn, target, pinned = self._pin(_call(user_msg, chat_history))
        prepared = _able(target, turn)._prepare_chat_with_tools_compat(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            **kwargs,
        )
        return prepared | {PINNED: pinned}


class _Talk(NamedTuple):
    """The arguments that every call with tools has."""

    tools: Sequence[BaseTool]
    user_msg: UserMessage
    chat_history: ChatHistory

    def copied(self) -> _Talk:
        """With a history of its own: providers append the user's message to the one they are given."""
        return self._replace(chat_history=None if self.chat_history is None else list(self.chat_history))


def _call(user_msg: UserMessage, chat_history: ChatHistory) -> Call:
    def read() -> list[ChatMessage]:
        last = [ChatMessage(user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []
        return [*(chat_history or []), *last]

    return Call(read, tools=True)


def _able(target: LLM, turn: Turn[LLM]) -> FunctionCallingLLM:
    """The target, which must be able to call tools.

    Raises:
        SettingError: It is not.
    """
    if isinstance(target, FunctionCallingLLM):
        return target
    raise SettingError(
        f"the target of route {turn.decision.route!r}, a {type(target).__name__}, can't call tools",
        hint="bind function-calling LLMs to all routes and to the default",
    )
