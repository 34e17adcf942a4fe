"""What is shipped as data: policies, detections, hunting templates, posture indicators, playbooks, views, descriptions
of doors. Nothing in here decides.

Policies, detections, templates, indicators and playbooks carry their own tests. A view (``tables/NAME.kql``) begins
with comment lines that are YAML: what it is, and what each of its columns means; the rest is its query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import yaml

from watchfloor.model.errors import InputError

_COMMENT: Final = re.compile(r"(?:^//.*\n)+", re.MULTILINE)


def policies() -> list[dict[str, Any]]:
    """The bodies of the policies that come with the product, ordered by id."""
    folder = resources.files(__name__).joinpath("policies")
    bodies = [yaml.safe_load(f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(bodies, key=lambda body: str(body["id"]))


def playbooks() -> list[dict[str, Any]]:
    """The bodies of the playbooks that come with the product, ordered by id."""
    folder = resources.files(__name__).joinpath("playbooks")
    bodies = [yaml.safe_load(f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(bodies, key=lambda body: str(body["id"]))


def access_policies() -> list[dict[str, Any]]:
    """The bodies of the policies of conditional access that come with the product, ordered by id."""
    folder = resources.files(__name__).joinpath("access")
    bodies = [yaml.safe_load(f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(bodies, key=lambda body: str(body["id"]))


def described_doors() -> dict[str, Any]:
    """The telemetry doors as a part of an OpenAPI document: ``paths`` and ``components``."""
    text = resources.files(__name__).joinpath("openapi", "telemetry.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return {name: found[name] for name in ("paths", "components")}


@dataclass(frozen=True, slots=True)
class ViewFile:
    """A view as it is written: ``columns`` are its columns, in order, each with what it means; ``query`` is KQL."""

    name: str
    doc: str
    columns: Mapping[str, str]
    query: str


def views() -> list[ViewFile]:
    """The views that come with the product, by name."""
    folder = resources.files(__name__).joinpath("tables")
    files = [f for f in folder.iterdir() if f.name.endswith(".kql")]
    return sorted((read_view(f.name[: -len(".kql")], f.read_text("utf-8")) for f in files), key=lambda view: view.name)


def read_view(name: str, text: str) -> ViewFile:
    """The view that ``text`` describes. Raises ``InputError`` for what is not one."""
    where = f"content/tables/{name}.kql"
    head = _COMMENT.match(text)
    if head is None:
        raise InputError("the file does not begin with its description.", where=where, remedy="Write // doc: …")
    try:
        found = yaml.safe_load(re.sub(r"^// ?", "", head[0], flags=re.MULTILINE))
        doc, columns = found["doc"], {str(column): str(means) for column, means in found["columns"].items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its description cannot be read: {error}.", where=where) from error
    return ViewFile(name, str(doc).strip(), columns, text[head.end() :])
