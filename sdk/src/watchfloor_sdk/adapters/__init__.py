"""Agent frameworks, one module each; importing one needs its framework. No tool runs without the guard's yes."""

from __future__ import annotations

from watchfloor_sdk.adapters.asking import hearing

__all__ = ["hearing"]
