"""How the turns of a route are served, and what is known of the models that serve: settings that stand in code or in a policy file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from archroute.errors import PolicyError

_TOLERANCE = 1e-6  # shares written in decimals need not sum to 1 exactly


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model. None, everywhere: nothing is.

    Attributes:
        images: Whether it takes pictures.
        tools: Whether it calls tools.
        context: The longest request it takes, in tokens.
        input_price: What a million tokens that it reads cost, in whatever money you count in.
        output_price: What a million tokens that it writes cost.
    """

    images: bool | None = None
    tools: bool | None = None
    context: int | None = None
    input_price: float | None = None
    output_price: float | None = None

    def over(self, other: ModelInfo) -> ModelInfo:
        """What is known here and, where nothing is, there."""
        mine = {name: getattr(self, name) for name in (field.name for field in fields(self))}
        return ModelInfo(**{name: getattr(other, name) if value is None else value for name, value in mine.items()})

    def cost(self, input_tokens: int, output_tokens: int) -> float | None:
        """What a call costs; None where a price is missing."""
        if self.input_price is None or self.output_price is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


OnFailure = Literal["default", "raise"]
"""What happens when all targets of a route have failed: the default serves, or the last error is raised."""


@dataclass(frozen=True)
class Serving:
    """How the turns of one route are served.

    Attributes:
        shares: Name of a model → its share of the route's sessions; empty: the first model serves all.
        shadows: Names of models that are asked beside the one that serves, their answers dropped.
        timeout: Seconds until an answer, or the first piece of a streamed one, must be there; None: no limit.
        min_confidence: The route's own `min_confidence`; None: the router's.
        on_failure: What happens when all of its targets have failed.

    Raises:
        PolicyError: A number is out of its range.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    shadows: tuple[str, ...] = ()
    timeout: float | None = None
    min_confidence: float | None = None
    on_failure: OnFailure = "default"

    def __post_init__(self) -> None:
        if self.shares:
            check_shares(self.shares)
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise PolicyError(f"timeout={self.timeout}", hint="give a positive number of seconds")
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise PolicyError(f"min_confidence={self.min_confidence}", hint="give a probability from 0 to 1")
        if self.on_failure not in get_args(OnFailure):
            raise PolicyError(f"on_failure={self.on_failure!r}", hint='use "default" or "raise"')


def check_shares(shares: Mapping[str, float]) -> None:
    """Whether names share all there is.

    Raises:
        PolicyError: A share is no number from 0 to 1, or they do not sum to 1.
    """
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise PolicyError(f"the share of {name!r} is {share!r}", hint="give a number from 0 to 1")
    total = math.fsum(shares.values())
    if abs(total - 1) > _TOLERANCE:
        raise PolicyError(
            f"the shares of {', '.join(shares) or 'no target'} sum to {total:g}", hint="make them sum to 1"
        )
