"""How the turns of one policy are shared among several targets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Generic

from archroute.dispatch.models import Model, Target
from archroute.errors import PolicyError
from archroute.serving import check_shares


class Shares:
    """The shares of several names; they may be changed while turns are served.

    Example:
        >>> shares = Shares({"gpt-5": 0.95, "new": 0.05})
        >>> shares.choose("user-1") == shares.choose("user-1")
        True

    Args:
        shares: Name → its share of the keys, from 0 to 1; they sum to 1.

    Raises:
        PolicyError: They do not.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        check_shares(shares)
        self._shares = dict(shares)

    def __repr__(self) -> str:
        return f"Shares({self._shares})"

    @property
    def current(self) -> Mapping[str, float]:
        """Name → share, as they are now."""
        return dict(self._shares)

    def change(self, shares: Mapping[str, float]) -> None:
        """Change the shares; a name that is left out gets none.

        Keys move only to names whose share grows relative to that of others.

        Raises:
            PolicyError: There is no such name, or they do not sum to 1.
        """
        unknown = sorted(set(shares) - set(self._shares))
        if unknown:
            raise PolicyError(f"there is no target {', '.join(unknown)}", hint=f"there are {', '.join(self._shares)}")
        check_shares(shares)
        self._shares = {name: shares.get(name, 0.0) for name in self._shares}

    def choose(self, key: str) -> str:
        """The name that serves `key`: the same one as long as the shares are.

        Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): each name draws
        a number from the key, exponentially distributed with its share as the rate, and the smallest wins.
        """
        shares = self._shares
        return min(
            (name for name in shares if shares[name] > 0),
            key=lambda name: -math.log(_uniform(key, name)) / shares[name],
        )

    def ranked(self, key: str) -> list[str]:
        """The name that serves `key`, then the others with a share, the largest first: who stands in when one fails."""
        shares, first = self._shares, self.choose(key)
        others = [name for name in shares if shares[name] > 0 and name != first]
        return [first, *sorted(others, key=lambda name: -shares[name])]


class Split(Generic[Target]):
    """Several targets that share the turns of one policy.

    The same session stays on the same side. `split.shares.change({…})` moves the shares while turns are served.

    Example:
        >>> split = Split({"gpt-5": print, "new": len}, {"gpt-5": 0.95, "new": 0.05})
        >>> split.shares.change({"gpt-5": 0.9, "new": 0.1})

    Args:
        targets: Name → target.
        shares: Name → its share of the sessions, from 0 to 1; they sum to 1.

    Raises:
        PolicyError: The names differ, or the shares do not sum to 1.
    """

    def __init__(self, targets: Mapping[str, Target | Model[Target]], shares: Mapping[str, float] | Shares) -> None:
        self.shares = shares if isinstance(shares, Shares) else Shares(shares)
        if set(targets) != set(self.shares.current):
            raise PolicyError(
                f"the targets {', '.join(targets)} have shares for {', '.join(self.shares.current)}",
                hint="give each target a share; 0 will do",
            )
        self.models: Mapping[str, Model[Target]] = {
            name: target if isinstance(target, Model) else Model(name, target) for name, target in targets.items()
        }

    def __repr__(self) -> str:
        return f"Split({self.shares.current})"

    def mapped(self, change: Callable[[Model[Target]], Model[Target]]) -> Split[Target]:
        """The same split over other objects; it shares its shares with this one."""
        return Split({name: change(model) for name, model in self.models.items()}, self.shares)


def _uniform(key: str, name: str) -> float:
    """A number from a key and a name, uniform between 0 and 1, neither of them included."""
    digest = hashlib.blake2b(f"{len(name)}:{name}{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64
