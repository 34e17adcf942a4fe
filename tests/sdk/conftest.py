"""A running world, as in tests/gateway."""

from __future__ import annotations

from gateway.conftest import world

__all__ = ["world"]
