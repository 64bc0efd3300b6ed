"""LlamaIndex's LLMs as targets: what they are called, what they can take, and what an answer took."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM

from archroute import SettingError
from archroute.dispatch import Model, Route, RouteTable
from archroute.observe import Usage
from archroute.serving import ModelInfo

_METADATA_WITHIN = 5.0  # seconds; some LLMs ask a server for it
_UNTOLD = ("", "unknown")  # the name of a model that doesn't say it


class LLMTable(RouteTable[LLM]):
    """Routes over LLMs.

    Args:
        routes: In the order the policies are to stand in.
        default: The LLM for what fits no policy.

    Raises:
        SettingError: A target is no LLM.
        PolicyError: The policies are not valid together.

    Attributes:
        llms: Every LLM whose answer may be used, once each: all but those that are shadows alone.
    """

    signals: ClassVar[tuple[type[Exception], ...]] = (SettingError,)

    def __init__(self, routes: Iterable[Route[LLM]], default: LLM | Model[LLM]) -> None:
        routes = tuple(routes)
        for route in routes:
            if isinstance(route, Route):
                route.mapped(_checked)
        _checked(default, "default")
        super().__init__(routes, default)
        served = [self.default, *(model for name in self.bound for model in self.members(name))]
        self.llms: Mapping[int, LLM] = {id(model.target): model.target for model in served}
        self._unseen: dict[int, Model[LLM]] = {}

    def describe(self, target: LLM) -> tuple[str, ModelInfo]:
        """The model's name and what its metadata say; of an LLM that can't tell them in time, the name of its class."""
        metadata = _metadata(target)
        if metadata is None:
            return type(target).__name__, ModelInfo()
        name = type(target).__name__ if metadata.model_name in _UNTOLD else metadata.model_name
        told = metadata.context_window > 0 and metadata.context_window != DEFAULT_CONTEXT_WINDOW
        return name, ModelInfo(
            tools=metadata.is_function_calling_model and isinstance(target, FunctionCallingLLM),
            context=metadata.context_window if told else None,
        )

    def usage_of(self, answer: Any) -> Usage | None:
        """See `RouteTable`; read where LlamaIndex's token counters read it, and in `additional_kwargs` else."""
        if not isinstance(answer, ChatResponse | CompletionResponse):
            return None
        read = written = 0
        for raw in (answer.raw, {"usage": answer.additional_kwargs}):
            if not (read or written) and raw:
                read, written = _tokens(raw)
        return Usage(input_tokens=read, output_tokens=written) if read or written else None

    def shadows(self, route: str) -> list[Model[LLM]]:
        """See `RouteTable`. One that serves elsewhere is asked as a copy without callbacks, which count what is served."""
        return [self._uncounted(model) if id(model.target) in self.llms else model for model in super().shadows(route)]

    def _uncounted(self, model: Model[LLM]) -> Model[LLM]:
        if id(model) not in self._unseen:
            self._unseen[id(model)] = model.mapped(
                lambda llm: llm.model_copy(update={"callback_manager": CallbackManager([])})
            )
        return self._unseen[id(model)]


def _checked(given: LLM | Model[LLM], place: str) -> Model[LLM]:
    target = given.target if isinstance(given, Model) else given
    if not isinstance(target, LLM):
        what = f"target of {place}" if place == "default" or place.startswith("route ") else place
        raise SettingError(f"the {what} is a {type(target).__name__}", hint="bind LlamaIndex LLMs")
    return given if isinstance(given, Model) else Model("", given)


def _metadata(target: LLM) -> LLMMetadata | None:
    read: list[LLMMetadata] = []

    def run() -> None:
        with suppress(Exception):  # nothing is known of it then, and that is all
            read.append(target.metadata)

    thread = threading.Thread(target=run, name="archroute-metadata", daemon=True)
    thread.start()
    thread.join(_METADATA_WITHIN)
    return read[0] if read else None


def _tokens(raw: Any) -> tuple[int, int]:
    """Tokens read and written, in any of the providers' forms that LlamaIndex knows."""
    try:
        read, written = get_tokens_from_response(
            CompletionResponse.model_construct(text="", raw=raw, additional_kwargs={})
        )
        return int(read or 0), int(written or 0)
    except Exception:  # a form that it doesn't know
        return 0, 0
