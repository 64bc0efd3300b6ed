"""Prediction from prompts, plain and structured: the chosen target renders the prompt and parses its answer itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, TokenAsyncGen, TokenGen

from llamaindex_archroute.tools import ToolMethods

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel

_QUESTION = (
    "query_str"  # what LlamaIndex's own prompts call the user's question, beside retrieved text and instructions
)


class PromptMethods(ToolMethods):
    """The methods that take a prompt template."""

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The chosen target's answer. A prompt with a `query_str` is routed by that alone."""
        return self._serve(self._reader(prompt, prompt_args)).target.predict(prompt, **prompt_args)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """`predict`, asynchronous."""
        served = await self._aserve(self._reader(prompt, prompt_args))
        return await served.target.apredict(prompt, **prompt_args)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """`predict`, streamed."""
        return self._serve(self._reader(prompt, prompt_args)).target.stream(prompt, **prompt_args)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """`stream`, asynchronous."""
        served = await self._aserve(self._reader(prompt, prompt_args))
        return await served.target.astream(prompt, **prompt_args)

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """The chosen target's answer as an `output_cls`, by the target's own method: native where it has one."""
        served = self._serve(self._reader(prompt, prompt_args))
        result: Model = served.target.structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        return result

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """`structured_predict`, asynchronous."""
        served = await self._aserve(self._reader(prompt, prompt_args))
        result: Model = await served.target.astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        return result

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel]:
        """`structured_predict`, streamed: ever fuller objects."""
        served = self._serve(self._reader(prompt, prompt_args))
        return served.target.stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel]:
        """`stream_structured_predict`, asynchronous."""
        served = await self._aserve(self._reader(prompt, prompt_args))
        return await served.target.astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

    def _reader(self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Callable[[], list[ChatMessage]]:
        def read() -> list[ChatMessage]:
            question = (prompt.kwargs | prompt_args).get(_QUESTION)
            return [ChatMessage(question)] if isinstance(question, str) else prompt.format_messages(self, **prompt_args)

        return read
