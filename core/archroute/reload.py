"""What is built from a policy file, built anew when the file changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from archroute.errors import ArchRouteError, FileFormatError, PolicyError, SettingError
from archroute.policy import PolicySet
from archroute.policy_file import parse_policies

logger = logging.getLogger("archroute")

Built = TypeVar("Built")
"""The type of what is built from the policies."""

# Two changes within one tick of a file system's clock can leave the same times: FAT's tick is the longest.
_TICK_NS = 2_000_000_000
_READS = 5  # of a file that is written to meanwhile, before what was read is taken as it is


class Reloaded(Generic[Built]):
    """Holds what is built from a policy file; safe under threads, and nobody waits while it is built anew.

    A file that can't be read, or that nothing can be built from, changes nothing: what was built before stays, one error is logged
    and `error` tells it, until the file is good again. Replace the file by renaming another over it, as editors do: one that is
    written in place may be read half written, and half a policy file can be a good one.

    Example:
        >>> file = Path(tempfile.mkdtemp()) / "policies.yaml"
        >>> _ = file.write_text(PolicySet([Policy("tax", "Tax law and returns")]).to_yaml())
        >>> names = Reloaded(file, lambda policies: [route.name for route in policies], every=0)
        >>> _ = file.write_text(PolicySet([Policy("travel", "Planning trips")]).to_yaml())
        >>> names.current()
        ['travel']

    Args:
        path: The policy file, or a Plano configuration.
        build: Makes the value from the policies. What it raises refuses that version of the file.
        every: Seconds between two looks at the file, at the least; 0: every call looks.

    Raises:
        FileFormatError: The file can't be read; or what `build` raises.
        SettingError: `every` is negative.
    """

    def __init__(self, path: str | Path, build: Callable[[PolicySet], Built], *, every: float = 1.0) -> None:
        if not every >= 0:
            raise SettingError(f"every={every}", hint="give seconds, or 0")
        self.path = Path(path)
        self._build = build
        self._every = every
        self._due = 0.0  # when the file is to be looked at again
        self._stamp: _Stamp | None = None  # of what was read last, unless another content may have it too
        self._good: bytes | None = None  # the digest of what `_held` was built from
        self._bad: bytes | int | None = None  # the digest of what was refused, or the number of the error while reading
        self._error: ArchRouteError | None = None
        self._looking = threading.Lock()
        self._held: Built  # replaced whole, so that it is read without the lock
        self.reload()

    def __repr__(self) -> str:
        return f"Reloaded({str(self.path)!r})"

    @property
    def error(self) -> ArchRouteError | None:
        """Why the file as it was seen last is not what `current` gives; None: it is."""
        return self._error

    def current(self) -> Built:
        """What the last good version of the file gave.

        The caller that finds the file changed builds it anew, others get the old value meanwhile.
        """
        if time.monotonic() >= self._due and self._looking.acquire(blocking=False):
            try:
                if time.monotonic() >= self._due:  # nobody has looked between the two conditions
                    self._look()
            except Exception:
                logger.error("%s is refused, what was read before stays: %s", self.path, self._error)
            finally:
                self._due = time.monotonic() + self._every
                self._looking.release()
        return self._held

    async def acurrent(self) -> Built:
        """`current`, without blocking the event loop."""
        return self._held if time.monotonic() < self._due else await asyncio.to_thread(self.current)

    def reload(self) -> Built:
        """Read the file and build it now, whether or not it has changed; waits for a caller that is building it.

        Raises:
            As the constructor; `current` goes on with what was built before.
        """
        with self._looking:
            self._due = time.monotonic() + self._every
            self._look(now=True)
            return self._held

    def _look(self, *, now: bool = False) -> None:
        """Build what the file holds, if that has changed or `now`; raises once for each bad version, and always if `now`."""
        try:
            if not now and self._stamp and self._stamp == _stamp(self.path.stat()):
                return
            stamp, content = _read(self.path)
        except OSError as error:
            self._stamp = None
            number = error.errno or -1
            if now or number != self._bad:
                told = FileFormatError(f"{self.path}: can't be read: {error}", hint="check the path")
                self._bad, self._error = number, told
                raise told from error
            return
        digest = hashlib.sha256(content).digest()
        if now or digest not in (self._good, self._bad):
            try:
                held = self._build(parse_policies(content, str(self.path)))
            except Exception as error:
                self._stamp, self._bad, self._error = stamp, digest, self._ours(error)
                raise
            self._held, self._good = held, digest
        self._stamp = stamp
        if digest == self._good:
            self._bad = self._error = None

    def _ours(self, error: Exception) -> ArchRouteError:
        if isinstance(error, ArchRouteError):
            return error
        # The kind alone: the text of another library's error may hold a key.
        told = PolicyError(f"{self.path}: nothing could be built from it: {type(error).__name__}", hint="see its cause")
        told.__cause__ = error
        return told


class _Stamp(NamedTuple):
    """What changes when a file does: its content, or which file has the name."""

    modified: int
    changed: int
    size: int
    inode: int


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _read(path: Path) -> tuple[_Stamp | None, bytes]:
    """The content of a file and its stamp; None for one that a later content may have too."""
    for _ in range(_READS):
        now = time.time_ns()
        with path.open("rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            content = file.read()
            after = _stamp(os.fstat(file.fileno()))
        if before == after:
            break
    settled = before == after and now - max(after.modified, after.changed) > _TICK_NS
    return after if settled else None, content
