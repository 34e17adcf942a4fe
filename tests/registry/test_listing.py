"""Asking tool servers for their tools, within walls."""

from __future__ import annotations

import pytest

from resolver import FORBIDDEN, Resolver
from watchfloor.model.errors import Unavailable
from watchfloor.registry.listing import list_tools


@pytest.mark.asvs("1.3.6")
async def test_no_server_is_asked_whose_name_stands_for_a_forbidden_address(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(FORBIDDEN).install(monkeypatch)
    for name in FORBIDDEN:
        with pytest.raises(Unavailable, match=name):
            await list_tools(f"http://{name}/mcp", "secret", timeout=5)
