"""The objects that serve: each with a name, and with what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from archroute.observe.record import Usage
from archroute.serving import ModelInfo

Target = TypeVar("Target")
"""The type of a framework's LLM object."""


@dataclass(frozen=True)
class Model(Generic[Target]):
    """A user's object under a name, with what is known of it.

    Wherever a target is asked for, the object alone will do; it is then named, and its abilities are read, by the framework's package.

    Example:
        >>> Model("gpt-5", print, ModelInfo(context=400_000, images=True))
        Model(name='gpt-5', info=ModelInfo(images=True, tools=None, context=400000, input_price=None, output_price=None))

    Attributes:
        name: What traces, records and statistics call it.
        target: The user's object.
        info: What it can take and what it costs, as far as that is known.
    """

    name: str
    target: Target = field(repr=False)  # its repr may hold a key
    info: ModelInfo = field(default_factory=ModelInfo)

    def cost(self, usage: Usage | None) -> float | None:
        """What a call of it that took these tokens costs; None where tokens or prices are not known."""
        return None if usage is None else self.info.cost(usage.input_tokens, usage.output_tokens)

    def mapped(self, change: Callable[[Target], Target]) -> Model[Target]:
        """The same model with another object."""
        return replace(self, target=change(self.target))
