"""Lists as Graph's clients ask for them: the options of OData that we know, and pages that join without gap.

Below the modules of single resources (``graph_cases``, ``graph_risk``), which say what may be filtered and sorted by.
Source: Graph's documentation of query parameters and of paging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import Request

from watchfloor.model.errors import InputError
from watchfloor.portal import graph_shapes
from watchfloor.storage import odata

OPTIONS: Final = frozenset({"$filter", "$top", "$skip", "$skiptoken", "$orderby", "$count", "$select", "$expand"})


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of a list. ``before``: the id of the last one of the page before, where nothing orders the list."""

    filter: str
    top: int
    skip: int
    before: str
    order: tuple[tuple[str, bool], ...]
    count: bool
    select: tuple[str, ...]
    expand: bool


def asked(request: Request, *, usual: int, most: int, orders: Sequence[str], expands: Sequence[str] = ()) -> Asked:
    """The options of ``request``. ``usual`` and ``most``: resources in a page. Raises ``InputError``."""
    options = dict(request.query_params)
    unknown = sorted(option for option in options if option.startswith("$") and option not in OPTIONS)
    if unknown:
        raise InputError(f"{unknown[0]} is not supported here.", where=unknown[0], remedy=", ".join(sorted(OPTIONS)))
    expand = options.get("$expand", "")
    if expand and expand not in expands:
        remedy = f"Only {', '.join(expands)}." if expands else "Leave it out."
        raise InputError(f"{expand!r} cannot be expanded.", where="$expand", remedy=remedy)
    order = odata.parse_order(options["$orderby"], orders) if options.get("$orderby") else []
    return Asked(
        options.get("$filter", ""),
        min(_number(options, "$top", usual, at_least=1), most),
        _number(options, "$skip", 0),
        options.get("$skiptoken", "")[:200],
        tuple(order),
        options.get("$count", "").lower() == "true",
        tuple(name.strip() for name in options.get("$select", "").split(",") if name.strip()),
        bool(expand),
    )


def _number(options: Mapping[str, str], name: str, usual: int, at_least: int = 0) -> int:
    text = options.get(name, "")
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= at_least):
        raise InputError(f"{text!r} is no number of at least {at_least}.", where=name)
    return int(text)


def version(request: Request) -> str:
    """``v1.0`` or ``beta``, as the address says."""
    return request.url.path.split("/", 2)[1]


def page(
    request: Request, context: Mapping[str, str], asked: Asked, shown: list[dict[str, Any]], total: int | None
) -> dict[str, Any]:
    """The answer: this page, and where the next one is, if this one is full."""
    body: dict[str, Any] = dict(context)
    if total is not None:
        body["@odata.count"] = total
    if len(shown) == asked.top:
        # What is new must not push what is old from page to page: where nothing else orders them, the next page begins
        # behind the last id.
        options = {key: value for key, value in request.query_params.items() if key not in ("$skip", "$skiptoken")}
        options |= {"$skip": str(asked.skip + asked.top)} if asked.order else {"$skiptoken": shown[-1]["id"]}
        address = f"{request.app.state.deps.public_url}{request.url.path}"
        body["@odata.nextLink"] = f"{address}?{urlencode(options, safe='$')}"
    wanted = (*asked.select, "alerts") if asked.select and asked.expand else asked.select
    body["value"] = [graph_shapes.select(each, wanted) for each in shown]
    return body


def parsed(raw: bytes) -> Any:
    """The JSON that was sent. Raises ``InputError``."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError(f"this is no JSON: {error}.", where="body") from None
