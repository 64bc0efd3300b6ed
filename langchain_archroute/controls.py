"""What all routers of this package are made from, tell of their turns, and let be changed while they serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from archroute.dispatch import Dispatch
from archroute.policy import PolicySet
from langchain_archroute.decider import Decider
from langchain_archroute.loading import Targets, loaded
from langchain_archroute.versions import CurrentDecider, Versions


class Controls:
    """A base of routers."""

    _versions: Versions
    _dispatch: Dispatch
    _own_default: ClassVar[Any] = None  # where neither the caller nor the file names one

    @classmethod
    def from_yaml(
        cls,
        source: str | Path | PolicySet,
        *,
        targets: Targets | None = None,
        default: Any = None,
        reload: bool = False,
        **settings: Any,
    ) -> Self:
        """A router from a policy file or a Plano configuration.

        Args:
            source: The file, its text, or policies read already.
            targets: Names of models or of routes with the Runnables that stand for them; other models are made by LangChain's
                `init_chat_model`.
            default: As in the class; None: the model that the file names.
            reload: Whether the file is looked at once a second and read anew when it has changed; a bad one changes nothing and is
                told of in the log. `source` is then its path. Shares that were changed meanwhile are the file's again.
            settings: The other arguments of the class.

        Raises:
            FileFormatError: The file can't be read.
            PolicyError: A route has no model, or there is no default.
            SettingError: The file is to be read anew, and `source` is no path.
        """
        arguments = loaded(source, targets, default, reload=reload, own=cls._own_default)
        return cast(Self, cast(Any, cls)(**arguments, **settings))

    @property
    def decider(self) -> Decider:
        """The decision alone, as a Runnable of its own, for LangGraph's conditional edges too; see `Decider`."""
        return CurrentDecider(self._versions)

    def stats(self) -> dict[str, Any]:
        """Counts and means of all turns so far, of every router that shares this one's `dispatch`; see `Dispatch.stats`."""
        return self._dispatch.stats()

    def change_shares(self, route: str, shares: Mapping[str, float]) -> None:
        """Change the shares of a route's split while turns are served, for all routers that were made of this one too.

        Raises:
            PolicyError: There is no such route, it has no split, or the shares are not valid.
        """
        self._versions.current().table.change_shares(route, shares)

    def reload(self) -> None:
        """Read the policy file anew now.

        Raises:
            ArchRouteError: It can't be read, or nothing can be built from it; what was read before stays.
            SettingError: The routes come from no file.
        """
        self._versions.tables.reload()
