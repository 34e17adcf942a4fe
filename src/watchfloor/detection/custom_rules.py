"""Rules that operators write: checked as those of the product are, kept in control state, run by the same runner.

Above ``kql_rule`` and ``storage.rules``; the portal calls it. It does not know who may do what.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from watchfloor.detection.kql_rule import KqlRule, Prepared, prepare
from watchfloor.detection.rules import Ruleset
from watchfloor.detection.words import faults_of
from watchfloor.kql.schema import Schema
from watchfloor.model.errors import Conflict, InputError
from watchfloor.storage import rules
from watchfloor.storage.rules import CustomRule, RuleState

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_log = logging.getLogger(__name__)


def read(tx: ControlTx) -> Iterator[KqlRule]:
    """Every rule that an operator wrote. One that a newer version no longer takes is left out, and said in the log."""
    for stored in rules.custom_rules(tx):
        try:
            yield KqlRule.model_validate(stored.body)
        except ValidationError as error:
            _log.error("rule %s is not run: %s", stored.id, faults_of(error))


def check(body: Mapping[str, Any], schema: Schema) -> tuple[Prepared | None, list[str]]:
    """The rule that ``body`` is, ready to run, or everything that is wrong with it."""
    try:
        rule = KqlRule.model_validate(body)
    except ValidationError as error:
        return None, faults_of(error).split("; ")
    return prepare(rule, schema)


def checked(body: Mapping[str, Any], schema: Schema) -> Prepared:
    """As ``check``. Raises ``InputError`` with every fault."""
    prepared, faults = check(body, schema)
    if prepared is None:
        raise InputError("\n".join(faults), where=str(body.get("id") or "rule"))
    return prepared


def save(
    tx: ControlTx, prepared: Prepared, body: Mapping[str, Any], shipped: Ruleset, *, newest: int, create: bool
) -> CustomRule:
    """Store a checked rule. A new one begins with what arrives from now on (behind ``newest``), a changed one goes on.

    Raises ``Conflict`` for an id that is taken.
    """
    rule = prepared.rule
    if rule.id in shipped_ids(shipped):
        raise Conflict(f"{rule.id!r} is a rule of the product.", where="id", remedy="Choose another id.")
    if create and rules.find_custom_rule(tx, rule.id) is not None:
        raise Conflict(f"there is a rule {rule.id!r} already.", where="id", remedy="Change it with PUT.")
    before = rules.find_custom_rule(tx, rule.id)
    if before is not None and before.body.get("kind") != rule.kind:
        message = f"the rule is {before.body.get('kind')}, and stays so."
        raise Conflict(message, where="kind", remedy="Delete it, or choose another id.")
    stored = rules.save_custom_rule(tx, rule.id, body)
    first = RuleState(rule.id, position=newest) if rule.is_near_real_time else RuleState(rule.id, seen=newest)
    rules.begin(tx, first)
    return stored


def shipped_ids(ruleset: Ruleset) -> set[str]:
    """Ids of the rules that come with the product, of every kind."""
    everything: Sequence[Any] = (*ruleset.rules, *ruleset.sessions, *ruleset.kql)
    return {rule.id for rule in everything}
