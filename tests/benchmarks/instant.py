"""An engine that costs nothing, so that what is measured is all the rest."""

from __future__ import annotations

from collections.abc import Sequence

from archroute import OTHER, Conversation, Policy
from archroute.engines.base import Engine, Scores


class Instant(Engine):
    """Chooses the first route at no cost."""

    name = "instant"

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`."""
        rest = 0.1 / len(routes)
        probabilities = {route.name: rest for route in routes} | {OTHER: rest}
        probabilities[routes[0].name] = 0.9
        return [Scores(probabilities, 1.0, 0, False) for _ in conversations]
