"""The Model Context Protocol, both wire protocols: stateless (2026-07-28) and with sessions (2025-11-25 and older)."""
