"""Watchfloor: the security operations centre for AI agents."""

__version__ = "0.1.0"
