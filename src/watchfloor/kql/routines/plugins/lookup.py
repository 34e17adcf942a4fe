"""Plugins that look rows up in a second table: networks by address, shapes by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

from watchfloor.kql.functions import FUNCTIONS
from watchfloor.kql.routines.common import Budget, Cells, Refused, Spec, Table, empty, keys, routine

Network = tuple[int, int]
"""An address as a number of 128 bits, and how many of them count."""


def network(text: str, version: int) -> Network | None:
    """The network that ``text`` names in prefix notation (a bare address is a network of its own), its other bits zero;
    None if it names none. An IPv4 address is the IPv6 address ::ffff:a.b.c.d; ``version`` 4 allows only such."""
    address, slash, prefix = text.strip().partition("/")
    number: int
    try:
        number, width = int(IPv4Address(address)) | 0xFFFF << 32, 32
    except AddressValueError:
        if version == 4:
            return None
        try:
            number, width = int(IPv6Address(address)), 128
        except AddressValueError:
            return None
    if slash and not (prefix.isascii() and prefix.isdigit() and int(prefix) <= width):
        return None
    bits = 128 - width + (int(prefix) if slash else width)
    return number >> 128 - bits << 128 - bits, bits


@routine("ip_lookup")
def ip_lookup(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """Each row with each entry whose network it lies in."""
    rows, entries = tables
    source, version = spec["source"], spec["version"]
    left_keys, right_keys = ([pair[side] for pair in spec["equal"]] for side in (0, 1))
    known: dict[tuple[Network, tuple[Any, ...]], list[int]] = defaultdict(list)
    for place, cells in enumerate(entries):
        found = network(cells[spec["network"]], version)
        if found is not None:
            known[found, keys(cells, right_keys)].append(place)
    widths = sorted({bits for (_, bits), _ in known})

    def matching(cells: Cells) -> Iterable[int]:
        found = network(cells[source], version)
        if found is None:
            return ()
        number, bits = found
        others = keys(cells, left_keys)
        parts = ((number >> 128 - width << 128 - width, width) for width in widths if width <= bits)
        return sorted(place for part in parts for place in known.get((part, others), ()))

    yield from _joined(spec, rows, entries, matching, budget)


@routine("geo_lookup")
def geo_lookup(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """Each row with each entry whose polygon (or line) its point lies in, or near enough to."""
    rows, entries = tables
    radius, shape = spec["radius"], spec["key"]
    name = f"geo_distance_point_to_{spec['kind']}" if radius is not None else "geo_point_in_polygon"
    if name not in FUNCTIONS:
        raise Refused(f"{name}() is not supported, which this plugin needs.")
    python = FUNCTIONS[name][0].python

    def matching(cells: Cells) -> Iterable[int]:
        longitude, latitude = cells[spec["longitude"]], cells[spec["latitude"]]
        if longitude is None or latitude is None:
            return
        for place, entry in enumerate(entries):
            budget.check()
            found = None if entry[shape] is None else python(longitude, latitude, entry[shape])
            if found is True or (found is not None and radius is not None and found <= radius):
                yield place

    yield from _joined(spec, rows, entries, matching, budget)


def _joined(
    spec: Spec, rows: Table, entries: Table, matching: Callable[[Cells], Iterable[int]], budget: Budget
) -> Iterator[Cells]:
    nothing = [empty(type_) for type_ in spec["right_types"]] if spec["unmatched"] else []
    for cells in rows:
        budget.check()
        left = [cells[place] for place in spec["left"]]
        is_matched = False
        for place in matching(cells):
            is_matched = True
            yield [*left, *(entries[place][column] for column in spec["right"])]
        if spec["unmatched"] and not is_matched:
            yield [*left, *nothing]
