"""The web reader: fetches pages over HTTP and gives their text, as any reader does: hidden text included."""

from __future__ import annotations

import html.parser
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import httpx
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo.toolservers.door import CallLog

_MOST_BYTES = 1_000_000


class Page(BaseModel):
    """A page as text, with the links on it."""

    url: str
    title: str
    text: str
    links: list[str]


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title, self.text, self.links = "", [""], [""][:0]
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within.append(tag)
        if tag == "a":
            self.links.extend(value for name, value in attrs if name == "href" and value)
        if tag in ("p", "li", "h1", "h2", "h3", "div", "br"):
            self.text.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            while self._within.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "title" in self._within:
            self.title += data
        elif not {"script", "style"} & set(self._within):
            self.text[-1] += data


def build(log: CallLog, site: str) -> MCPServer:
    """The server. It fetches pages of ``site`` only: this machine's other services are none of its business."""
    server: MCPServer = MCPServer(
        "zava-web", title="Web Reader", version="1.0.0", middleware=[log.watch], log_level="ERROR"
    )

    @server.tool(
        title="Fetch a page",
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True, idempotent_hint=True),
    )
    async def fetch_page(url: Annotated[str, Field(description="Address of the page.", max_length=2000)]) -> Page:
        """Fetch a web page and return its title, its text and its links."""
        target = urljoin(f"{site}/", url)
        if urlsplit(target)[:2] != urlsplit(site)[:2]:
            raise ToolError(f"{url} cannot be reached from here; reachable: pages of {site}")
        try:
            async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
                answer = await client.get(target)
                answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ToolError(f"{url}: {error}") from error
        reader = _Reader()
        reader.feed(answer.text[:_MOST_BYTES])
        text = "\n".join(line for line in (" ".join(part.split()) for part in reader.text) if line)
        return Page(url=target, title=reader.title.strip(), text=text, links=[urljoin(target, x) for x in reader.links])

    return server
