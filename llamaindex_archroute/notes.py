"""The note on a response that says how its turn was routed, and by which target it was served."""

from __future__ import annotations

from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

NOTE = "archroute"
"""Key of the decision in a response's `additional_kwargs`. Never in a message's: those go into memory and back to the providers."""

_INNER = "inner"  # within the note: what a router behind this one noted
_Answer = TypeVar("_Answer")


def noted(answer: _Answer, note: dict[str, Any]) -> _Answer:
    """A copy of a response with the note; anything else, plain text or an object, as it is."""
    if not isinstance(answer, ChatResponse | CompletionResponse):
        return answer
    kwargs = answer.additional_kwargs
    if NOTE in kwargs:
        note = {**note, _INNER: kwargs[NOTE]}
    copied: _Answer = answer.model_copy(update={"additional_kwargs": {**kwargs, NOTE: note}})  # type: ignore[assignment]
    return copied


def read_note(response: ChatResponse) -> tuple[str | None, ChatResponse]:
    """The name of the target that is noted on a response, if one is, and the response as the target gave it."""
    note = response.additional_kwargs.get(NOTE)
    if not isinstance(note, dict):
        return None, response
    kwargs = {key: value for key, value in response.additional_kwargs.items() if key != NOTE}
    if _INNER in note:
        kwargs[NOTE] = note[_INNER]
    return note.get("target"), response.model_copy(update={"additional_kwargs": kwargs})
