"""Every error the project raises.

| error | when | retryable |
|---|---|---|
| `ArchRouteError` | the root of all of them | |
| `PolicyError` | a policy, a domain or a set of them is not valid | no |
| `ConversationError` | there is no user turn to route, or a message can't be read | no |
| `SettingError` | an argument of a router, an engine or a command has an impossible value | no |
| `FileFormatError` | a policy file, a cases file or a history file is malformed | no |
| `ModelError` | a checkpoint is missing, incomplete or of another architecture | no |
| `DownloadError` | the model hub could not be reached or said no | yes |
| `EngineError` | the engine failed on a decision | yes |
| `OverloadedError` | more decisions wait than are allowed to | yes |
| `TargetTimeoutError` | a target did not answer within its route's timeout | yes |
"""

from __future__ import annotations

from typing import ClassVar


class ArchRouteError(Exception):
    """Root of the project's errors.

    Args:
        message: What is wrong, naming the thing that is.
        hint: How to mend it; printed below the message.

    Attributes:
        retryable: Whether the same call may succeed later without a change.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class PolicyError(ArchRouteError):
    """A policy, a domain or a set of them is not valid."""


class ConversationError(ArchRouteError):
    """There is no user turn to route, or a message can't be read."""


class SettingError(ArchRouteError):
    """An argument has an impossible value."""


class FileFormatError(ArchRouteError):
    """A file of the user's is malformed; the message names the line and the field."""


class ModelError(ArchRouteError):
    """A checkpoint is missing, incomplete or of another architecture."""


class DownloadError(ArchRouteError):
    """The model hub could not be reached or refused."""

    retryable = True


class EngineError(ArchRouteError):
    """The engine failed on a decision."""

    retryable = True


class OverloadedError(ArchRouteError):
    """More decisions wait than are allowed to."""

    retryable = True


class TargetTimeoutError(ArchRouteError):
    """A target did not answer within its route's timeout."""

    retryable = True
