"""Plugins of evaluate that are routines."""

from watchfloor.kql.routines.plugins import lookup, neighbours, schemas, timeline

__all__ = ["lookup", "neighbours", "schemas", "timeline"]
