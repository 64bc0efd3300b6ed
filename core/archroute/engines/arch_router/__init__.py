"""Arch-Router in process: int8 weights, and one forward pass a decision."""

from archroute.engines.arch_router.engine import ArchRouterEngine

__all__ = ["ArchRouterEngine"]
