"""Directories become users: whoever is disabled there loses sessions here, and what breaks off changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.world import IDP, World, company
from watchfloor.identity import directory, sessions
from watchfloor.identity.connector import Ability, Account, DirectoryAccount
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import Kind, UserFacts
from watchfloor.model.ids import is_name
from watchfloor.storage import identity_connectors, people
from watchfloor.storage.identity_connectors import Connector
from watchfloor.storage.people import User


@dataclass
class Elsewhere:
    """A directory of somebody else. ``breaks_at``: after so many accounts it is gone."""

    accounts: list[DirectoryAccount] = field(default_factory=list)
    breaks_at: int | None = None
    kind = "elsewhere"
    abilities = frozenset({Ability.LIST_ACCOUNTS})

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port."""
        for count, account in enumerate(self.accounts):
            if count == self.breaks_at:
                raise Unavailable("the line broke")
            yield account


def account(subject: str, **known: object) -> DirectoryAccount:
    """An account of the company's provider."""
    upn = known.pop("upn", f"{subject}@zava.example")
    made = DirectoryAccount(Account(IDP, subject, str(upn)), name=subject.title())
    return replace(made, **known)  # type: ignore[arg-type]  # members of it


class Sync:
    """An installation whose provider has a directory."""

    def __init__(self, folder: Path) -> None:
        self.world = World.with_company(folder)
        with self.world.store.tx("root") as tx:
            identity_connectors.save_connector(tx, Connector(IDP, "elsewhere", {}, tx.now))
        self.there = Elsewhere()

    def run(self, *accounts: DirectoryAccount, breaks_at: int | None = None) -> directory.Synced:
        self.there.accounts, self.there.breaks_at = list(accounts), breaks_at
        return directory.sync(self.world.store, IDP, self.there)  # type: ignore[arg-type]  # only lists

    def users(self) -> dict[str, User]:
        with self.world.store.read() as tx:
            return {user.id: user for user in people.list_users(tx)}

    def connector(self) -> Connector:
        with self.world.store.read() as tx:
            found = identity_connectors.find_connector(tx, IDP)
        assert found is not None
        return found


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[Sync]:
    made = Sync(tmp_path)
    yield made
    made.world.close()


@pytest.mark.claim("idp-sync")
def test_who_is_listed_becomes_a_user_whom_the_guard_knows(sync: Sync) -> None:
    done = sync.run(
        account("hedy", department="Research", groups=("lab",), manager="mona"),
        account("mona", name="Mona Kane"),
    )
    assert (done.accounts, done.created) == (2, 2)
    hedy = sync.users()["hedy"]
    assert (hedy.issuer, hedy.subject, hedy.upn) == (IDP, "hedy", "hedy@zava.example")
    assert (hedy.department, hedy.groups, hedy.manager) == ("Research", ("lab",), "mona")
    facts = UserFacts.from_json(sync.world.facts(Kind.USER)["mona"])
    assert (facts.upn, facts.name, facts.is_enabled) == ("mona@zava.example", "Mona Kane", True)
    again = sync.run(*sync.there.accounts)
    assert (again.created, again.changed, again.disabled) == (0, 0, 0), "the second time nothing is to do"
    assert sync.connector().synced_at is not None and sync.connector().accounts == 2


def test_somebody_who_is_known_already_stays_the_same_user(sync: Sync) -> None:
    before = sync.users()["griffin"]
    sync.run(account("griffin", job_title="Clerk"))
    after = sync.users()["griffin"]
    assert after == replace(before, job_title="Clerk", name="Griffin", updated_at=after.updated_at)


def test_disabling_there_ends_sessions_here_and_enabling_there_undoes_only_that(sync: Sync) -> None:
    sync.run(account("griffin"))
    before = sync.users()["griffin"]
    assert sync.run(account("griffin", is_enabled=False)).disabled == 1
    disabled = sync.users()["griffin"]
    assert not disabled.is_enabled and disabled.epoch > before.epoch and disabled.not_before is not None
    sync.run(account("griffin"))
    assert sync.users()["griffin"].is_enabled
    assert sync.users()["griffin"].epoch == disabled.epoch, "old sessions stay dead"


def test_whom_the_soc_has_disabled_no_directory_enables(sync: Sync) -> None:
    sync.run(account("griffin"))
    with sync.world.store.tx("soc") as tx:
        sessions.set_user_enabled(tx, "griffin", False, "stolen laptop")
    for is_enabled in (True, False, True):
        sync.run(account("griffin", is_enabled=is_enabled))
        assert not sync.users()["griffin"].is_enabled


@pytest.mark.claim("idp-sync")
def test_a_listing_that_breaks_off_changes_nothing_and_says_so(sync: Sync) -> None:
    everybody = [account(name) for name in ("griffin", "hedy", "mona", "quinn")]
    sync.run(*everybody)
    before = sync.users()
    with pytest.raises(Unavailable):
        sync.run(account("griffin", is_enabled=False), *everybody[1:], breaks_at=2)
    assert sync.users() == before
    assert sync.connector().sync_problem == "the line broke"
    sync.run(*everybody)
    assert sync.connector().sync_problem == ""


def test_who_is_gone_is_disabled_but_where_most_are_gone_nobody_is(sync: Sync) -> None:
    everybody = [account(name) for name in ("griffin", "hedy", "mona", "quinn")]
    sync.run(*everybody)
    assert sync.run(*everybody[:1]).problem.startswith("3 of 4")
    assert sync.run().problem.startswith("4 of 4")
    assert all(sync.users()[a.account.subject].is_enabled for a in everybody)
    assert sync.run(*everybody[:3]).disabled == 1
    gone = sync.users()["quinn"]
    assert not gone.is_enabled and gone.not_before is not None
    sync.run(*everybody)
    assert sync.users()["quinn"].is_enabled, "and is there again"


@pytest.mark.parametrize(
    ("upn", "name"),
    [
        ("griffin@evil.example", "thief@evil.example"),
        ("griffin@zava.example.evil.example", "https://evil.example/in"),
        ("griffin", "DE89 3704 0044 0532 0130 00"),
        ("a b@zava.example", "evil.example"),
    ],
)
def test_what_people_write_about_themselves_becomes_no_trusted_destination(sync: Sync, upn: str, name: str) -> None:
    sync.run(account("newcomer", upn=upn, name=name))
    users = [UserFacts.from_json(body) for body in sync.world.facts(Kind.USER).values()]
    assert "newcomer" in {user.id for user in users} or len(users) > len(company()["users"])
    assert not {upn, name} & {known for user in users for known in (user.upn, user.name)}


def test_honest_names_are_taken_as_they_are(sync: Sync) -> None:
    for name in ("Griffin J. Lewis", "Åsa Öberg-Lund", "O'Neill, Sean (Sales)", "李 雷"):
        sync.run(account("newcomer", name=name))
        assert sync.users()["newcomer"].name == name


def test_what_a_directory_does_not_fill_stays_and_what_it_empties_goes(sync: Sync) -> None:
    sync.run(account("griffin", department="Billing", groups=("billing",)), account("mona", department="Sales"))
    sync.run(account("griffin", groups=()), account("mona", department="Sales", groups=("lab",)))
    griffin = sync.users()["griffin"]
    assert (griffin.department, griffin.groups) == ("", ()), "others have them, so it means none"
    sync.run(account("griffin"), account("mona"))
    assert sync.users()["mona"].department == "Sales", "nobody has one any more: it does not say"


def test_a_manifest_does_not_enable_or_empty_what_the_directory_says(sync: Sync) -> None:
    manifest = company()
    sync.run(account("griffin", is_enabled=False, department="Billing"))
    for user in manifest["users"]:
        user.pop("department", None)
    sync.world.apply(manifest)
    griffin = sync.users()["griffin"]
    assert not griffin.is_enabled and griffin.department == "Billing"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=70).filter(bool), max_size=6, unique=True))
def test_whatever_accounts_are_called_each_has_a_user_of_its_own(sync: Sync, subjects: list[str]) -> None:
    subjects = [s.encode("utf-8", "replace").decode().replace("\0", "0") for s in subjects]
    sync.run(*(account(subject) for subject in subjects))
    found = {user.subject: user.id for user in sync.users().values() if user.issuer == IDP}
    assert set(subjects) <= set(found)
    assert len(set(found.values())) == len(found) and all(is_name(user_id) for user_id in found.values())
