"""The shared drive: list, read, write. Holds its files in memory; paths are relative and stay inside."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo import company
from watchfloor_demo.toolservers.door import CallLog

READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_MOST_FILES = 5_000


class Listing(BaseModel):
    """Paths in a folder."""

    paths: list[str]


class File(BaseModel):
    """A text file."""

    path: str
    text: str


class Written(BaseModel):
    """What was written."""

    path: str
    characters: int


def build(log: CallLog) -> MCPServer:
    """The server, over a fresh copy of the company's files."""
    server: MCPServer = MCPServer(
        "zava-files", title="Zava Files", version="0.9.1", middleware=[log.watch], log_level="ERROR"
    )
    files = {row["path"]: row["text"] for row in company.read("files.yaml")}

    def checked(path: str) -> str:
        parts = path.strip("/").split("/")
        if not path or any(part in ("", ".", "..") for part in parts):
            raise ToolError(f"{path!r} is not a path on the shared drive")
        return "/".join(parts)

    @server.tool(title="List files", annotations=READ)
    async def list_files(folder: Annotated[str, Field(description="A folder; empty: everything.")] = "") -> Listing:
        """List the files below a folder."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        return Listing(paths=sorted(path for path in files if path.startswith(prefix)))

    @server.tool(title="Read a file", annotations=READ)
    async def read_file(path: Annotated[str, Field(description="For example people/handbook.md.")]) -> File:
        """Return a text file."""
        if checked(path) not in files:
            raise ToolError(f"there is no file {path}")
        return File(path=checked(path), text=files[checked(path)])

    @server.tool(
        title="Write a file",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    async def write_file(
        path: Annotated[str, Field(description="Where to, for example letters/contoso.md.", max_length=200)],
        text: Annotated[str, Field(description="The whole content.", max_length=200_000)],
    ) -> Written:
        """Write a text file, new or in place of an existing one."""
        if len(files) >= _MOST_FILES and checked(path) not in files:
            raise ToolError("the shared drive is full")
        files[checked(path)] = text
        return Written(path=checked(path), characters=len(text))

    return server
