"""Risk that an identity provider sees by itself: whom it lists is at risk here, too, until it lists them no more.

Above ``storage.risks`` and the port; the job that syncs directories calls it. A listing is read to its end before
anything is done about it: one that breaks off does nothing. What was dismissed here stays so until the provider has
something newer to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from watchfloor.identity.connector import RiskyAccount
from watchfloor.model.people import RiskLevel
from watchfloor.storage import people, risks
from watchfloor.storage.risks import Seen

if TYPE_CHECKING:
    from watchfloor.storage.control import SqlControlStore

ACTOR: Final = "system:directory"


def sync(control: SqlControlStore, issuer: str, listed: Iterable[RiskyAccount]) -> int:
    """Note whom the provider of ``issuer`` lists, take back whom it lists no more; how many it lists of ours.

    Raises what listing raises; then nothing was changed. Safe to run twice.
    """
    there = {risky.account.subject: risky for risky in listed}
    key = f"provider/{issuer}"[:300]
    with control.read() as tx:
        users = {user.subject: user.id for user in people.list_users(tx) if user.issuer == issuer}
        noted = {detection.subject_id: detection for detection in risks.open_under(tx, risks.USER, key)}
    seen = {users[subject]: risky for subject, risky in there.items() if subject in users}
    for user_id, risky in seen.items():
        with control.tx(ACTOR, audited=False) as tx:  # noting what is known changes nothing
            why = f"the identity provider sees it at risk ({risky.why or risky.level.value})"
            new = Seen("providerRiskLevel", risky.level, issuer, why, key, risky.at, risky.at, exact=True)
            risks.record(tx, risks.USER, user_id, new)
    for user_id, old in noted.items():
        if user_id not in seen:
            with control.tx(ACTOR) as tx:
                why = "the identity provider sees no risk any more"
                none = Seen(old.detection, RiskLevel.NONE, issuer, why, key, old.first_at, old.last_at, exact=True)
                risks.record(tx, risks.USER, user_id, none)
    return len(seen)
