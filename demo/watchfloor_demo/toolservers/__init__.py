"""Zava's six tool servers: real MCP servers, each on a port of its own.

Each module has one function that builds a server over the company's records; ``door`` stands before all of them.
"""
