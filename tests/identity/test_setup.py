"""Set-up: one token, one owner, once."""

from __future__ import annotations

import pytest

from watchfloor.identity import operators, setup
from watchfloor.identity.operators import Operators
from watchfloor.identity.passwords import Passwords
from watchfloor.identity.setup import SetupRefused
from watchfloor.model.errors import Conflict, InputError
from watchfloor.model.people import Role

from .world import World

PASSWORD = "correct horse battery staple"
PASSWORDS = Passwords(memory_kib=64)


def offer(world: World) -> str:
    with world.store.tx() as tx:
        token = setup.ensure_setup_token(tx)
    assert token is not None
    return token


def test_whoever_holds_the_token_becomes_owner_and_can_sign_in(world: World) -> None:
    operator = setup.set_up(world.store, PASSWORDS, offer(world), "ada", PASSWORD)
    assert operator.roles == {Role.OWNER}
    desk = Operators(world.store, world.vault, passwords=PASSWORDS, clock=world.clock.monotonic)
    assert desk.sign_in("ada", PASSWORD, "10.0.0.1").token


@pytest.mark.asvs("6.4.1")
def test_the_token_works_once_and_afterwards_none_is_offered(world: World) -> None:
    token = offer(world)
    setup.set_up(world.store, PASSWORDS, token, "ada", PASSWORD)
    with pytest.raises(Conflict, match="set up already"):
        setup.set_up(world.store, PASSWORDS, token, "mallory", PASSWORD)
    with world.store.tx() as tx:
        assert setup.ensure_setup_token(tx) is None
        tx.audit("test:end", "test")


@pytest.mark.parametrize("token", ["", "wrong", "None", "0" * 64])
def test_another_token_is_refused_and_the_right_one_still_works(world: World, token: str) -> None:
    right = offer(world)
    with pytest.raises(SetupRefused):
        setup.set_up(world.store, PASSWORDS, token, "mallory", PASSWORD)
    assert setup.set_up(world.store, PASSWORDS, right, "ada", PASSWORD)


def test_without_an_offer_no_token_works(world: World) -> None:
    with pytest.raises(SetupRefused):
        setup.set_up(world.store, PASSWORDS, "", "mallory", PASSWORD)


def test_a_restart_replaces_the_token(world: World) -> None:
    first, second = offer(world), offer(world)
    with pytest.raises(SetupRefused):
        setup.set_up(world.store, PASSWORDS, first, "ada", PASSWORD)
    assert setup.set_up(world.store, PASSWORDS, second, "ada", PASSWORD)


@pytest.mark.asvs("6.4.1")
def test_the_token_ends_after_a_day(world: World) -> None:
    token = offer(world)
    world.clock.pass_seconds(24 * 3600)
    with pytest.raises(SetupRefused):
        setup.set_up(world.store, PASSWORDS, token, "ada", PASSWORD)


def test_a_mistake_in_name_or_password_does_not_use_the_token_up(world: World) -> None:
    token = offer(world)
    with pytest.raises(InputError, match="sign-in name"):
        setup.set_up(world.store, PASSWORDS, token, "Ada Byrne", PASSWORD)
    with pytest.raises(InputError, match="12 to 256"):
        setup.set_up(world.store, PASSWORDS, token, "ada", "short")
    assert setup.set_up(world.store, PASSWORDS, token, "ada", PASSWORD)


def test_the_local_admin_does_not_count_as_set_up(world: World) -> None:
    Operators(world.store, world.vault, passwords=PASSWORDS).write_local_admin_token(
        world.directory / "run" / "admin.token"
    )
    assert setup.set_up(world.store, PASSWORDS, offer(world), "ada", PASSWORD)


@pytest.mark.asvs("6.4.1")
def test_the_token_is_stored_as_a_hash_only(world: World) -> None:
    token = offer(world)
    world.store.close()
    assert token.encode() not in b"".join(p.read_bytes() for p in world.directory.glob("control.db*"))


def test_an_installation_with_an_operator_offers_no_token(world: World) -> None:
    with world.store.tx() as tx:
        operators.create(tx, "ada", None, [Role.AUDITOR])
        assert setup.ensure_setup_token(tx) is None
