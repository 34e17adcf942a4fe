"""Graph operators: patterns, shortest paths and components over a table of nodes and a table of edges."""

from watchfloor.kql.routines.graph import components, match, paths

__all__ = ["components", "match", "paths"]
