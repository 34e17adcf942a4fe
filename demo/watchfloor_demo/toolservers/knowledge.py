"""The knowledge base: search, read, write, delete."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo import company
from watchfloor_demo.toolservers.door import CallLog

READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Title(BaseModel):
    """An article as a search shows it."""

    id: str
    title: str
    tags: list[str]


class Article(Title):
    """An article with its text."""

    text: str


class Titles(BaseModel):
    """Search result."""

    items: list[Title]


class Deleted(BaseModel):
    """What was deleted."""

    id: str


def build(log: CallLog) -> MCPServer:
    """The server, over a fresh copy of the company's articles."""
    server: MCPServer = MCPServer(
        "zava-knowledge", title="Zava Knowledge Base", version="1.4.0", middleware=[log.watch], log_level="ERROR"
    )
    articles = {row["id"]: Article(**row) for row in company.read("knowledge.yaml")}

    def find(article_id: str) -> Article:
        if article_id not in articles:
            raise ToolError(f"there is no article {article_id}")
        return articles[article_id]

    @server.tool(title="Search the knowledge base", annotations=READ)
    async def search_articles(
        query: Annotated[str, Field(description="Words; an article with any of them is found, best first.")],
        limit: Annotated[int, Field(description="At most so many.", ge=1, le=50)] = 5,
    ) -> Titles:
        """Find articles by words in title, tags and text."""
        # Without a plural's s, "holidays" finds the holiday calendar.
        words = {word.strip("?.,!").lower().removesuffix("s") for word in query.split() if len(word) > 2}
        scored = []
        for article in articles.values():
            text = f"{article.title} {article.title} {' '.join(article.tags)} {article.text}".lower()
            score = sum(text.count(word) for word in words)
            if score:
                scored.append((-score, article.id, article))
        best = [Title(id=a.id, title=a.title, tags=a.tags) for _, _, a in sorted(scored, key=lambda s: s[:2])[:limit]]
        return Titles(items=best)

    @server.tool(title="Read an article", annotations=READ)
    async def read_article(article_id: Annotated[str, Field(description="For example kb-101.")]) -> Article:
        """Return one article."""
        return find(article_id)

    @server.tool(
        title="Write an article",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    async def write_article(
        article_id: Annotated[str, Field(description="An existing id, or a new one.", pattern=r"^kb-\d{3,5}$")],
        title: Annotated[str, Field(max_length=120, description="One line.")],
        text: Annotated[str, Field(max_length=20_000, description="The whole text.")],
        tags: Annotated[list[str] | None, Field(description="Subjects.")] = None,
    ) -> Article:
        """Write an article, new or in place of an existing one."""
        articles[article_id] = Article(id=article_id, title=title, text=text, tags=tags or [])
        return articles[article_id]

    @server.tool(
        title="Delete an article",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    async def delete_article(article_id: Annotated[str, Field(description="For example kb-101.")]) -> Deleted:
        """Delete an article for good."""
        find(article_id)
        del articles[article_id]
        return Deleted(id=article_id)

    return server
