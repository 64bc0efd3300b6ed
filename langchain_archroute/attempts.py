"""Whether another middleware has put its own model into a request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any
from weakref import ReferenceType, ref

from langchain.agents.middleware.types import ModelRequest

_STEPS = 1024  # model steps that are remembered; only those that run now matter


@dataclass(frozen=True)
class _First:
    model: Any
    request: ReferenceType[ModelRequest[Any]]  # weak: a request holds a whole conversation


class Attempts:
    """The first attempt of every model step, told apart by LangGraph's own id of the step.

    Middleware calls its handler in a context of its own, and other middleware makes new requests of the old, so that neither context
    variables nor the request itself can carry this.
    """

    def __init__(self) -> None:
        self._first: OrderedDict[tuple[str, int], _First] = OrderedDict()
        self._lock = threading.Lock()

    def is_replacement(self, request: ModelRequest[Any]) -> bool:
        """Whether `request` is a later attempt of its step, with a model that another middleware chose for it.

        A retry comes with the first attempt's model. A fallback comes with another model; or, where the fallback is the agent's own
        model, with the same, but then in a new request that is the first in all else, as `override(model=…)` makes it.
        """
        step = request.runtime.execution_info if request.runtime else None
        if step is None:  # not in a graph: there is no telling
            return False
        key = (step.task_id, step.node_attempt)
        with self._lock:
            first = self._first.get(key)
            if first is None:
                self._first[key] = _First(request.model, ref(request))
                if len(self._first) > _STEPS:
                    self._first.popitem(last=False)
                return False
        if request.model is not first.model:
            return True
        earlier = first.request()
        if earlier is None or earlier is request:
            return False
        return all(getattr(request, field.name) is getattr(earlier, field.name) for field in fields(request))
