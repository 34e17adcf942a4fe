"""Access policies as Graph's ``conditionalAccessPolicy``, both ways.

Pure. What Graph has no member for stands in annotations (``@watchfloor.conditions``, ``@watchfloor.sessionControls``),
which other readers pass over. What Entra's policies say and nobody here can check is kept under ``unenforced`` by its
place, so that it is told, never dropped, and written again on export. Source: Graph's reference of
``conditionalAccessPolicy`` (v1.0, and beta for agents).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from watchfloor.model.errors import InputError

CONDITIONS: Final = "@watchfloor.conditions"
SESSION: Final = "@watchfloor.sessionControls"
_OURS: Final = frozenset({CONDITIONS, SESSION})
_IGNORED: Final = frozenset({"createdDateTime", "modifiedDateTime", "deletedDateTime", "templateId", "id",
                             "partialEnablementStrategy"})  # fmt: skip
_TOP: Final = ("displayName", "description", "state")
_USERS: Final = (("include", "includeUsers"), ("exclude", "excludeUsers"), ("includeGroups", "includeGroups"),
                 ("excludeGroups", "excludeGroups"), ("includeRoles", "includeRoles"),
                 ("excludeRoles", "excludeRoles"))  # fmt: skip
_AGENTS: Final = (("include", "includeAgentIdServicePrincipals"), ("exclude", "excludeAgentIdServicePrincipals"))
_SERVERS: Final = (("servers", "includeApplications"), ("excludeServers", "excludeApplications"))
_LEVELS: Final = ("userRiskLevels", "signInRiskLevels", "agentIdRiskLevels")
_NEUTRAL: Final = {"conditions.clientAppTypes": [["all"], ["All"]]}
"""Values that ask for nothing, besides null and what is empty."""

_NO_ONE: Final = "None"
_CONTROLS: Final = frozenset({"block", "mfa", "passwordChange"})
_FREQUENCY: Final = ("value", "type", "authenticationType", "frequencyInterval", "isEnabled")
_NOT_A_NAME: Final = re.compile(r"[^a-z0-9._-]+")

Names = Callable[[str], str]


def _same(name: str) -> str:
    return name


def from_graph(body: Any, *, user_id: Names = _same, agent_id: Names = _same) -> dict[str, Any]:
    """Our body of Graph's. ``user_id`` and ``agent_id`` turn ids of the directory into ours.

    Its state is as given: whether it may be enabled with what stands under ``unenforced``, ``check`` says. Raises
    ``InputError`` for what is no policy.
    """
    if not isinstance(body, Mapping):
        raise InputError("a policy is an object.", where="policy")
    rest = _Rest()
    conditions = _object(body.get("conditions"), "conditions")
    users = _object(conditions.get("users"), "conditions.users")
    clients = _object(conditions.get("clientApplications"), "conditions.clientApplications")
    applications = _object(conditions.get("applications"), "conditions.applications")
    grant = _object(body.get("grantControls"), "grantControls")
    session = _object(body.get("sessionControls"), "sessionControls")
    ours = _object(conditions.get(CONDITIONS), CONDITIONS)
    agent_names = {"include": agent_id, "exclude": agent_id}

    rest.other(body, {*_TOP, *_IGNORED, "conditions", "grantControls", "sessionControls"}, "")
    rest.other(conditions, {*_LEVELS, "users", "clientApplications", "applications"}, "conditions")
    rest.other(users, {theirs for _, theirs in _USERS}, "conditions.users")
    rest.other(clients, {theirs for _, theirs in _AGENTS}, "conditions.clientApplications")
    rest.other(applications, {theirs for _, theirs in _SERVERS}, "conditions.applications")
    rest.other(grant, {"operator", "builtInControls"}, "grantControls")
    rest.other(session, {"signInFrequency"}, "sessionControls")

    found: dict[str, Any] = {"id": policy_id(body), **{name: body[name] for name in _TOP if body.get(name) is not None}}
    ours_of = {part: dict(_object(ours.get(part), f"{CONDITIONS}.{part}")) for part in ("agents", "resources")}
    made: dict[str, Any] = {
        "users": _renamed(users, _USERS, "conditions.users", {"include": user_id, "exclude": user_id}),
        "agents": _renamed(clients, _AGENTS, "conditions.clientApplications", agent_names) | ours_of["agents"],
        "resources": _renamed(applications, _SERVERS, "conditions.applications", {}) | ours_of["resources"],
        "credentialModes": ours.get("credentialModes"),
    }
    for name in _LEVELS:
        made[name] = _texts(conditions.get(name), f"conditions.{name}")
    if made["users"].get("include") == [_NO_ONE] and made["agents"]:
        del made["users"]["include"]  # Entra's way of saying that a policy is for agents
    if not made["agents"].get("include") and made["users"] and not ours.get("agents"):
        made["agents"]["include"] = ["All"]
    found["conditions"] = {name: value for name, value in made.items() if value}
    controls = _texts(grant.get("builtInControls"), "grantControls.builtInControls")
    known = [control for control in controls if control in _CONTROLS]
    if left := [control for control in controls if control not in _CONTROLS]:
        rest.found["grantControls.builtInControls"] = left
    if known:
        found["grantControls"] = {"operator": grant.get("operator") or "OR", "builtInControls": known}
    frequency = _object(session.get("signInFrequency"), "sessionControls.signInFrequency")
    kept = {name: frequency[name] for name in _FREQUENCY if frequency.get(name) is not None}
    revoke = _object(session.get(SESSION), SESSION).get("revoke")
    session_controls = ({"signInFrequency": kept} if kept else {}) | ({"revoke": revoke} if revoke else {})
    if session_controls:
        found["sessionControls"] = session_controls
    if rest.found:
        found["unenforced"] = rest.found
    return found


def policy_id(body: Mapping[str, Any]) -> str:
    """The id that the policy has, or that its name gives it."""
    given = body.get("id") or body.get("displayName")
    if not isinstance(given, str):
        raise InputError("the policy has neither an id nor a display name.", where="displayName")
    return _NOT_A_NAME.sub("-", given.lower()).strip("-._")[:64] or "policy"


def to_graph(
    body: Mapping[str, Any],
    *,
    created: datetime | None = None,
    modified: datetime | None = None,
    user_id: Names = _same,
    agent_id: Names = _same,
) -> dict[str, Any]:
    """Graph's body of ours, with every member that Graph's clients expect, null where there is nothing."""
    conditions = body.get("conditions") or {}
    users, agents = conditions.get("users") or {}, conditions.get("agents") or {}
    resources = conditions.get("resources") or {}
    session, grant = body.get("sessionControls") or {}, body.get("grantControls")
    ours = {
        "agents": {n: v for n, v in agents.items() if n not in ("include", "exclude")},
        "resources": {n: v for n, v in resources.items() if n == "toolClasses"},
        "credentialModes": conditions.get("credentialModes"),
    }
    frequency = session.get("signInFrequency")
    written: dict[str, Any] = {
        "id": body["id"],
        "templateId": None,
        "displayName": body["displayName"],
        "createdDateTime": _moment(created),
        "modifiedDateTime": _moment(modified),
        "state": body["state"],
        "conditions": {
            "userRiskLevels": list(conditions.get("userRiskLevels") or ()),
            "signInRiskLevels": list(conditions.get("signInRiskLevels") or ()),
            "agentIdRiskLevels": list(conditions.get("agentIdRiskLevels") or ()),
            "clientAppTypes": ["all"],
            "servicePrincipalRiskLevels": [],
            "insiderRiskLevels": None,
            "platforms": None,
            "locations": None,
            "devices": None,
            "authenticationFlows": None,
            "applications": {
                "includeApplications": ["All" if s == "*" else s for s in resources.get("servers") or ("*",)],
                "excludeApplications": list(resources.get("excludeServers") or ()),
                "includeUserActions": [],
                "includeAuthenticationContextClassReferences": [],
                "applicationFilter": None,
            },
            "users": {
                theirs: [user_id(n) if mine in ("include", "exclude") else n for n in users.get(mine) or ()]
                for mine, theirs in _USERS
            }
            | {"includeGuestsOrExternalUsers": None, "excludeGuestsOrExternalUsers": None},
            "clientApplications": None,
        },
        "grantControls": None
        if not grant
        else {
            "operator": grant.get("operator", "AND"),
            "builtInControls": list(grant.get("builtInControls") or ()),
            "customAuthenticationFactors": [],
            "termsOfUse": [],
            "authenticationStrength": None,
        },
        "sessionControls": None,
    }
    if not any(users.get(mine) for mine, _ in _USERS):
        written["conditions"]["users"]["includeUsers"] = [_NO_ONE]
    if agents.get("include") or agents.get("exclude"):
        written["conditions"]["clientApplications"] = {
            "includeServicePrincipals": [],
            "excludeServicePrincipals": [],
            "servicePrincipalFilter": None,
        } | {theirs: [agent_id(n) for n in agents.get(mine) or ()] for mine, theirs in _AGENTS}
    if extra := {name: value for name, value in ours.items() if value}:
        written["conditions"][CONDITIONS] = extra
    if session:
        usual = {"authenticationType": "primaryAndSecondaryAuthentication", "frequencyInterval": "timeBased"}
        written["sessionControls"] = {
            "applicationEnforcedRestrictions": None,
            "cloudAppSecurity": None,
            "persistentBrowser": None,
            "disableResilienceDefaults": None,
            "signInFrequency": None if not frequency else {**usual, "isEnabled": True, **frequency},
        } | ({SESSION: {"revoke": True}} if session.get("revoke") else {})
    for place, value in (body.get("unenforced") or {}).items():
        _put(written, place.split("."), value)
    return written


class _Rest:
    """What is said and cannot be checked here, by its place."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def other(self, value: Mapping[str, Any], known: set[str], where: str) -> None:
        for name, said in value.items():
            place = f"{where}.{name}" if where else name
            if name in known or name in _OURS or "@odata" in name or not _says(said):
                continue
            if said not in _NEUTRAL.get(place, ()):
                self.found[place] = said


def _says(value: Any) -> bool:
    """Whether ``value`` asks for anything: null, nothing and objects of these do not."""
    if isinstance(value, Mapping):
        return any(_says(inner) for name, inner in value.items() if "@odata" not in name)
    return value not in (None, "", [], False)


def _put(target: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = target[name] = {}
        target = inner
    last, there = path[-1], target.get(path[-1])
    target[last] = (
        [*there, *value] if isinstance(there, list) and isinstance(value, list) and there != ["all"] else value
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError("it must be an object.", where=where)
    return value


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):  # Graph's flags, as some clients write them
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError("it must be a list of texts.", where=where)
    return list(value)


def _renamed(
    value: Mapping[str, Any], pairs: tuple[tuple[str, str], ...], where: str, names: Mapping[str, Names]
) -> dict[str, Any]:
    found = {}
    for mine, theirs in pairs:
        listed = [names.get(mine, _same)(name) for name in _texts(value.get(theirs), f"{where}.{theirs}")]
        if listed:
            found[mine] = listed
    return found


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
