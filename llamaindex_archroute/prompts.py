"""Prediction from prompts, plain and structured: the target renders the prompt and parses its answer itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, TokenAsyncGen, TokenGen

from llamaindex_archroute.reading import Call
from llamaindex_archroute.serving import aanswer, answer, astream, stream
from llamaindex_archroute.tools import ToolMethods

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel

_QUESTION = (
    "query_str"  # what LlamaIndex's own prompts call the user's question, beside retrieved text and instructions
)


class PromptMethods(ToolMethods):
    """The methods that take a prompt template."""

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The target's answer. A prompt with a `query_str` is routed by that alone."""
        return answer(self._begin(self._call(prompt, prompt_args)), lambda llm: llm.predict(prompt, **prompt_args))

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """`predict`, asynchronous."""
        turn = await self._abegin(self._call(prompt, prompt_args))
        return await aanswer(turn, lambda llm: llm.apredict(prompt, **prompt_args))

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """`predict`, streamed."""
        return stream(self._begin(self._call(prompt, prompt_args)), lambda llm: llm.stream(prompt, **prompt_args))

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """`stream`, asynchronous."""
        turn = await self._abegin(self._call(prompt, prompt_args))
        return await astream(turn, lambda llm: llm.astream(prompt, **prompt_args))

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """The target's answer as an `output_cls`, by the target's own method: native where it has one."""

        def ask(llm: LLM) -> Model:
            result: Model = llm.structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return result

        return answer(self._begin(self._call(prompt, prompt_args)), ask)

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """`structured_predict`, asynchronous."""

        async def ask(llm: LLM) -> Model:
            result: Model = await llm.astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return result

        return await aanswer(await self._abegin(self._call(prompt, prompt_args)), ask)

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel]:
        """`structured_predict`, streamed: ever fuller objects."""

        def ask(llm: LLM) -> Generator[Model | FlexibleModel]:
            return llm.stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

        return stream(self._begin(self._call(prompt, prompt_args)), ask)

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel]:
        """`stream_structured_predict`, asynchronous."""

        async def ask(llm: LLM) -> AsyncGenerator[Model | FlexibleModel]:
            return await llm.astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

        return await astream(await self._abegin(self._call(prompt, prompt_args)), ask)

    def _call(self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Call:
        given = prompt.kwargs | prompt_args
        question = given.get(_QUESTION)
        if not isinstance(question, str):
            return Call(lambda: prompt.format_messages(self, **prompt_args))
        beside = sum(len(value) for name, value in given.items() if isinstance(value, str) and name != _QUESTION)
        return Call(lambda: [ChatMessage(question)], characters=beside)
