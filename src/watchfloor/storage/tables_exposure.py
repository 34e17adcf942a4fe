"""Exposure: who could reach what, as the registry grants it; ExposureGraphNodes and -Edges are views of it.

One row for each thing with all of its edges, whenever it changed, and one a day; so the newest row of a thing says
everything that leads from it, and an edge that went away is gone. Above is ``registry/exposure_tables.py``.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

EXPOSURE_SNAPSHOTS: Final = Table(
    "ExposureSnapshots",
    "People, agents, credentials, tools and data with what leads from each to the next: a snapshot at each change and "
    "daily. ExposureGraphNodes and ExposureGraphEdges show what is true now.",
    (
        *COMMON,
        Column("NodeId", "string", "The thing."),
        Column(
            "NodeLabel",
            "string",
            "user, group, agent, childAgent, credential, tool, platformTool, toolServer or dataSource.",
        ),
        Column("NodeName", "string", "Its name."),
        Column("Categories", "dynamic", "What kind of thing it is: identity, ai_agent, credential, tool, data, …"),
        Column("NodeProperties", "dynamic", "What is known of it, under rawData: state, effect, level, owner, …"),
        Column("EntityIds", "dynamic", "Its ids: type and id."),
        Column("Edges", "dynamic", "What leads from it: id, label, target and properties of each edge."),
        Column("IsGone", "bool", "Whether it is there no more."),
    ),
)
