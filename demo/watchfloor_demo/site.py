"""A small web site, the outside world of this company. Two of its pages carry instructions for machines that read."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from watchfloor_demo.company import DATA


def build() -> Starlette:
    """The site: ``data/site/news_rail-capacity.html`` is ``/news/rail-capacity``."""
    pages = {
        "/" + path.stem.replace("_", "/").removeprefix("index"): path.read_text("utf-8")
        for path in sorted((DATA / "site").glob("*.html"))
    }

    async def page(request: Request) -> Response:
        text = pages.get(request.url.path)
        return HTMLResponse(text) if text is not None else HTMLResponse("<h1>Not found</h1>", 404)

    return Starlette(routes=[Route("/{path:path}", page)])
