"""Tool cards: what a tool does, what its arguments are for, whether it reaches the open world.

Worked out from names, from the JSON schema, from descriptions and MCP annotations. The tool server wrote all of them,
so a hint may only make a role stricter (``destination``, ``secret``), unless an administrator has said otherwise: then
that counts and nothing else. A card is inferred when a tool is approved, and for arguments that it does not name, at
the call.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from watchfloor.guard.provenance.labels import Role, Strictness
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import ToolCard

_E = ToolEffect
_R = Role
_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SECRET: Final = _words(
    "password passwd passphrase pwd secret secrets apikey credential credentials otp pin passcode cvv passwort "
    "contrasena motdepasse"
)
_SECRET_PAIRS: Final = frozenset({("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key")})
_CONTENT: Final = _words(
    "body content contents text subject title description desc message msg note notes comment comments summary caption "
    "query question reason tag tags mention mentions html markdown memo remark remarks reply answer prompt "
    "attachment attachments data"
)
_TIME: Final = _words(
    "time date day days month year hour hours minute minutes when deadline due start end begin until at duration "
    "timestamp schedule datum expiry expires timezone"
)
_DESTINATION: Final = _words(
    "cc bcc recipient recipients participant participants attendee attendees invitee invitees guest guests email "
    "emails mail address addresses iban bic account acct url urls uri link links href webhook endpoint callback phone "
    "mobile telephone channel channels user username users member members receiver payee beneficiary "
    "host hostname domain website server audience assignee assignees handle chat room group team owner "
    "collaborator collaborators empfaenger destinataire destinatario wallet sink forward redirect"
)
_HANDING: Final = _words("send mail ship reply forward deliver pay transfer share assign post publish upload write")
PLACES: Final = _words("destination target dest to location site")
"""Names that say where something goes when a tool sends or pays, and are only a place when it moves or navigates."""
_ID: Final = _words("token tokens id ids uid uuid guid key identifier number ref reference")
_AMOUNT: Final = _words(
    "amount price quantity qty count total sum size budget level rating limit cost value fee percent percentage rate "
    "shares balance"
)
_PATH: Final = _words("path file files filename filenames folder directory dir filepath paths document source")
_PERSON_ID: Final = _words("user receiver recipient account channel member payee chat target")

_COMMITTING: Final = _words(
    "pay payment transfer refund charge purchase buy sell wire payout withdraw checkout order reserve reservation book "
    "booking rent rental hire subscribe subscription renew donate bid trade invest redeem"
)
"""Words in a tool's name that say that somebody will have to pay, or is bound."""

_FORMATS: Final[Mapping[str, Role]] = {
    **dict.fromkeys(
        ("email", "idn-email", "uri", "url", "iri", "uri-reference", "hostname", "idn-hostname"), _R.DESTINATION
    ),
    "password": _R.SECRET,
}
_TELLS_DESTINATION: Final = re.compile(
    r"\b(?:e-?mail addresse?s?|recipients?|iban|phone number|account number|webhook|urls?|uri|web address|"
    r"whom? (?:to|it is) (?:send|sent|address))\b",
    re.IGNORECASE,
)
_TELLS_SECRET: Final = re.compile(r"\b(?:password|passphrase|api key|access token|secret)\b", re.IGNORECASE)
_GUARDED: Final = frozenset({_R.DESTINATION, _R.SECRET})
_MOST_ARGUMENTS: Final = 200
_PURPOSE: Final = 300
"""Characters of a description that are kept."""


@lru_cache(maxsize=8_192)
def role_of(name: str) -> Role:
    """What an argument of this name is for."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return _R.ENTITY
    found = frozenset(words)
    if found & _SECRET or any(pair in _SECRET_PAIRS for pair in itertools.pairwise(words)):
        return _R.SECRET
    last = words[-1]
    if (last in _ID and len(words) > 1) or last in ("id", "ids", "uid", "uuid", "guid", "token", "tokens"):
        # user_id and account_number say who gets something; order_id says which record is meant.
        return _R.DESTINATION if found & _PERSON_ID else _R.ID
    if last in _TIME or (found & _TIME and words[0] in _TIME):
        return _R.TIME
    if last in _CONTENT:
        return _R.CONTENT
    if last in _PATH:
        return _R.PATH
    if last in _DESTINATION or words[0] in ("to", "cc", "bcc") or (found & _DESTINATION and last == "name"):
        return _R.DESTINATION
    if last in ("to", "with") and len(words) > 1 and words[-2] in _HANDING:
        return _R.DESTINATION
    if last in _AMOUNT:
        return _R.AMOUNT
    if found & _CONTENT:
        return _R.CONTENT
    if found & _PATH:
        return _R.PATH
    if found & _TIME:
        return _R.TIME
    return _R.ENTITY


def role_at(name: str, known: str | None, effect: ToolEffect) -> Role:
    """What the argument is for in a tool with this effect; ``known`` is what its card says."""
    role = Role(known) if known is not None else role_of(name)
    if role is _R.ENTITY and name.lower() in PLACES and effect in (_E.SEND, _E.PAY):
        return _R.DESTINATION
    return role


@lru_cache(maxsize=8_192)
def effects_of(tool: str, effect: ToolEffect) -> frozenset[ToolEffect]:
    """The effects whose rules hold for a tool: its own; also ``pay`` where its name says that it commits somebody.

    What is not known to be harmless is everything.
    """
    if effect is _E.READ:
        return frozenset({effect})
    if effect is _E.UNKNOWN:
        return frozenset(_E) - {_E.READ}
    commits = any(word.lower() in _COMMITTING for word in _WORD.findall(tool))
    return frozenset({effect, _E.PAY}) if commits else frozenset({effect})


def infer_card(
    definition: Mapping[str, Any], *, is_trusted: bool = False, overrides: Mapping[str, str] | None = None
) -> ToolCard:
    """The card of a tool as ``tools/list`` describes it.

    ``is_trusted``: whether its server's hints may loosen; ``overrides``: roles by argument, from an administrator.
    """
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    roles: dict[str, str] = {}
    if isinstance(properties, Mapping):
        for name, about in list(properties.items())[:_MOST_ARGUMENTS]:
            roles[str(name)] = _hinted(role_of(str(name)), about).value
    for name, role in (overrides or {}).items():
        roles[name] = Role(role).value
    annotations = definition.get("annotations")
    hint = annotations.get("openWorldHint") if isinstance(annotations, Mapping) else None
    told = definition.get("description")
    purpose = " ".join(told[: 2 * _PURPOSE].split())[:_PURPOSE] if isinstance(told, str) else ""
    return ToolCard(roles=roles, is_open_world=not (hint is False and is_trusted), purpose=purpose)


def _hinted(role: Role, about: Any) -> Role:
    """``role``, made stricter where the schema or the description says so; never looser."""
    if role in _GUARDED or not isinstance(about, Mapping):
        return role
    items = about.get("items")
    shape = str(about.get("format") or (items.get("format") if isinstance(items, Mapping) else "") or "")
    if shape.lower() in _FORMATS:
        return _FORMATS[shape.lower()]
    told = about.get("description")
    if isinstance(told, str) and role in (_R.ENTITY, _R.AMOUNT):
        if _TELLS_SECRET.search(told):
            return _R.SECRET
        if _TELLS_DESTINATION.search(told):
            return _R.DESTINATION
    return role


def strictness_of(card: ToolCard | None) -> Strictness:
    """How much the tool asks of its arguments."""
    try:
        return Strictness(card.strictness) if card is not None and card.strictness else Strictness.CAREFUL
    except ValueError:
        return Strictness.STRICT  # a word of a newer control plane
