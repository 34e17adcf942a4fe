"""The door for machines: every tool call passes here, is decided on, recorded, and only then sent on.

Inline doors (``mcp/http.py``, ``decide.py``) answer in time and translate only; ``enforce.py`` turns what they saw into
facts, asks the guard and records its verdict. Imports guard, storage and model; knows no portal and no settings.
"""
