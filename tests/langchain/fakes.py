"""Chat models that stand in for the paid ones: named, recording, and able to do what those can."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import Field, PrivateAttr

SECRET = "sk-a-key-nobody-may-see"


class FakeModel(BaseChatModel):
    """Answers `label: what the user said`, a word a token; calls a bound tool of whose name the user says a part.

    Attributes:
        label: What it calls itself.
        api_key: A target's key, in clear, as careless integrations hold it.
        fails: Whether it raises.
        breaks_after: After how many chunks its streams raise.
        calls: Of every call: the messages, and the keyword arguments it was given.
    """

    label: str
    api_key: str = ""
    fails: bool = False
    breaks_after: int | None = None
    wait: Any = Field(default=None, exclude=True, repr=False)
    calls: list[tuple[list[BaseMessage], dict[str, Any]]] = Field(default_factory=list, exclude=True, repr=False)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "fake"

    @property
    def model_name(self) -> str:
        """What traces and statistics call it."""
        return self.label

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=formatted, tool_choice=tool_choice, **kwargs)

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **kwargs: Any) -> Runnable[Any, Any]:
        """Native JSON schema unless another method is asked for."""
        if kwargs.get("method") == "function_calling" or include_raw:
            kwargs.pop("method", None)
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        told = {"kwargs": {"method": "json_schema"}, "schema": convert_to_json_schema(schema)}
        bound = self.bind(response_format=told["schema"], ls_structured_output_format=told)
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            return bound | PydanticOutputParser(pydantic_object=schema)
        return bound | JsonOutputParser()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, stop, kwargs)
        words = re.findall(r"\s*\S+", str(answer.content)) or [""]
        for number, word in enumerate(words):
            if number == self.breaks_after:
                raise ConnectionError(f"{self.label} broke off")
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
            if run_manager:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=number)
            for number, call in enumerate(answer.tool_calls)
        ]
        last = AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=answer.usage_metadata,
            response_metadata=answer.response_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def _answer(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        with self._lock:
            self.calls.append((list(messages), {**kwargs, "stop": stop} if stop else dict(kwargs)))
        if self.wait is not None:
            self.wait()
        if self.fails:
            raise ConnectionError(f"{self.label} is down")
        said = messages[-1].text
        content, calls = f"{self.label}: {said}", []
        if schema := kwargs.get("response_format"):
            content = json.dumps(example(schema.get("json_schema", {}).get("schema", schema), said))
        elif tool := self._wanted(messages, kwargs):
            arguments = example(tool["function"]["parameters"], said)
            content, calls = "", [{"name": tool["function"]["name"], "args": arguments, "id": f"call_{len(messages)}"}]
        for word in stop or ():
            content = content.split(word)[0]
        read, written = sum(len(message.text.split()) for message in messages) or 1, len(content.split()) or 1
        return AIMessage(
            content=content,
            tool_calls=calls,
            usage_metadata=UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written),
            response_metadata={"model_name": kwargs.get("model", self.label)},
        )

    def _wanted(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        if not isinstance(messages[-1], HumanMessage):
            return None
        for tool in kwargs.get("tools") or ():
            spoken = [part for part in tool["function"]["name"].split("_") if part in messages[-1].text]
            if kwargs.get("tool_choice") or spoken:
                return tool
        return None


class NoTools(FakeModel):
    """A model that can't be given tools."""

    def bind_tools(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def example(schema: dict[str, Any], text: str, root: dict[str, Any] | None = None) -> Any:
    """A value that `schema` allows; every integer is 3, every string `text`."""
    root = root or schema
    if "$ref" in schema:
        return example(root["$defs"][schema["$ref"].split("/")[-1]], text, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example(schema[key][0], text, root)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    make: dict[str, Callable[[], Any]] = {
        "object": lambda: {name: example(part, text, root) for name, part in schema.get("properties", {}).items()},
        "array": lambda: [example(schema.get("items", {"type": "string"}), text, root)],
        "integer": lambda: 3,
        "number": lambda: 3.0,
        "boolean": lambda: True,
        "null": lambda: None,
    }
    return make.get(schema.get("type", "string"), lambda: text)()


def chain_of(label: str) -> Runnable[Any, str]:
    """A target that is no chat model."""
    return RunnableLambda(lambda value: f"{label} chain", name=label)
