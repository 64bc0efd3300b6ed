"""The model that comes with the package: a small int8 text encoder."""

from archroute.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
