"""Tool calling: each call goes to the chosen target's own method, and so does the reading of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen, ChatResponseGen
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index_instrumentation import get_dispatcher

from archroute import SettingError
from llamaindex_archroute.chat import PINNED, ChatMethods
from llamaindex_archroute.served import read_note

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse
    from llama_index.core.tools.types import BaseTool

dispatcher = get_dispatcher(__name__)
UserMessage = str | ChatMessage | None
ChatHistory = list[ChatMessage] | None


class ToolMethods(ChatMethods):
    """The methods of function-calling LLMs."""

    @dispatcher.span
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> ChatResponse:
        """The chosen target's answer or tool calls."""
        served = self._serve(_reader(user_msg, chat_history))
        return served.noted(served.with_tools.chat_with_tools(tools, user_msg, chat_history, *args, **kwargs))

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
        served = await self._aserve(_reader(user_msg, chat_history))
        return served.noted(await served.with_tools.achat_with_tools(tools, user_msg, chat_history, *args, **kwargs))

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
        served = self._serve(_reader(user_msg, chat_history))
        return served.stream(served.with_tools.stream_chat_with_tools(tools, user_msg, chat_history, *args, **kwargs))

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
        served = await self._aserve(_reader(user_msg, chat_history))
        return served.astream(
            await served.with_tools.astream_chat_with_tools(tools, user_msg, chat_history, *args, **kwargs)
        )

    def predict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """The output of the tools that the chosen target calls."""
        served = self._serve(_reader(user_msg, chat_history))
        return served.target.predict_and_call(list(tools), user_msg, chat_history, *args, **kwargs)

    async def apredict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: UserMessage = None,
        chat_history: ChatHistory = None,
        *args: Any,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """`predict_and_call`, asynchronous."""
        served = await self._aserve(_reader(user_msg, chat_history))
        return await served.target.apredict_and_call(list(tools), user_msg, chat_history, *args, **kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls in a response, read by the target that gave it.

        Raises:
            SettingError: No target can call tools.
        """
        route, given = read_note(response)
        table = self._bound()
        candidates = [table.targets.get(route, table.default)] if route else self._table_targets()
        for target in candidates:
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
        served = self._serve(_reader(user_msg, chat_history))
        prepared = served.with_tools._prepare_chat_with_tools_compat(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            **kwargs,
        )
        return prepared | {PINNED: served}


def _reader(user_msg: UserMessage, chat_history: ChatHistory) -> Callable[[], list[ChatMessage]]:
    def read() -> list[ChatMessage]:
        last = [ChatMessage(user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []
        return [*(chat_history or []), *last]

    return read
