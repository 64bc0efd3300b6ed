"""A target that was chosen for a turn, and the note on its answers that says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM

from archroute import Decision, SettingError

NOTE = "archroute"
"""Key of the decision in a response's `additional_kwargs`. Never in a message's: those go into memory and back to the providers."""

_INNER = "inner"  # within the note: what a router behind this one noted
_Response = TypeVar("_Response", ChatResponse, CompletionResponse)


@dataclass(frozen=True)
class Served:
    """Which target serves a turn, and why."""

    decision: Decision
    target: LLM = field(repr=False)  # its repr may hold a key

    @property
    def with_tools(self) -> FunctionCallingLLM:
        """The target, which must be able to call tools.

        Raises:
            SettingError: It is not.
        """
        if isinstance(self.target, FunctionCallingLLM):
            return self.target
        raise SettingError(
            f"the target of route {self.decision.route!r}, a {type(self.target).__name__}, can't call tools",
            hint="bind function-calling LLMs to all routes and to the default",
        )

    def noted(self, response: _Response) -> _Response:
        """A copy of `response` with the decision noted."""
        return self._with_note(response, self.decision.as_dict())

    def stream(self, responses: Generator[_Response]) -> Generator[_Response]:
        """The stream as it comes, the decision noted on every chunk: agents read tool calls from each.

        Closing it closes the target's stream.
        """
        note = self.decision.as_dict()
        try:
            for response in responses:
                yield self._with_note(response, note)
        finally:
            if isinstance(responses, Generator):
                responses.close()

    async def astream(self, responses: AsyncGenerator[_Response]) -> AsyncGenerator[_Response]:
        """`stream`, asynchronous."""
        note = self.decision.as_dict()
        try:
            async for response in responses:
                yield self._with_note(response, note)
        finally:
            if isinstance(responses, AsyncGenerator):
                await responses.aclose()

    @staticmethod
    def _with_note(response: _Response, note: dict[str, Any]) -> _Response:
        kwargs = response.additional_kwargs
        if NOTE in kwargs:
            note = {**note, _INNER: kwargs[NOTE]}
        return response.model_copy(update={"additional_kwargs": {**kwargs, NOTE: note}})


def read_note(response: ChatResponse) -> tuple[str | None, ChatResponse]:
    """The route noted on a response, if one is, and the response as the target gave it."""
    note = response.additional_kwargs.get(NOTE)
    if not isinstance(note, dict):
        return None, response
    kwargs = {key: value for key, value in response.additional_kwargs.items() if key != NOTE}
    if _INNER in note:
        kwargs[NOTE] = note[_INNER]
    return note.get("route"), response.model_copy(update={"additional_kwargs": kwargs})
