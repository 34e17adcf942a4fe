"""Codes of an authenticator app and recovery codes: right ones once, wrong ones never, and slowed down."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from watchfloor.identity import operators, second_factor
from watchfloor.identity.operators import Operators, SecondFactorRequired, SignInFailed
from watchfloor.identity.passwords import Passwords
from watchfloor.identity.second_factor import CodeWrong
from watchfloor.model.errors import Conflict, Unavailable
from watchfloor.model.people import Role

from .world import World

PASSWORD = "correct horse battery staple"
HERE = "10.0.0.1"


class Phone:
    """An authenticator app, on a clock of its own."""

    def __init__(self, world: World, key: str) -> None:
        self._world, self._totp = world, TOTP(base64.b32decode(key), 6, SHA1(), 30)

    def code(self, ahead: float = 0.0) -> str:
        return self._totp.generate(int(self._world.clock.at.timestamp() + ahead)).decode()


@pytest.fixture
def desk(world: World) -> Iterator[Operators]:
    passwords = Passwords(memory_kib=64)
    with world.store.tx("setup") as tx:
        operators.create(tx, "root", passwords.hash(PASSWORD), [Role.OWNER])
        operators.create(tx, "lin", passwords.hash(PASSWORD), [Role.SOC_ANALYST])
    yield Operators(
        world.store, world.vault, passwords=passwords, admins_need_second_factor=True, clock=world.clock.monotonic
    )


def enrol(world: World, name: str = "root") -> tuple[Phone, list[str]]:
    with world.store.tx(name) as tx:
        phone = Phone(world, second_factor.begin(tx, world.vault, name).key)
        codes = second_factor.confirm(tx, world.vault, name, phone.code())
    world.clock.pass_seconds(30)
    return phone, codes


def challenge(desk: Operators, name: str = "root", address: str = HERE) -> str:
    with pytest.raises(SecondFactorRequired) as caught:
        desk.sign_in(name, PASSWORD, address)
    return caught.value.challenge


@pytest.mark.asvs("6.3.2")
def test_an_administrator_without_a_second_factor_is_told_to_add_one_and_an_analyst_is_not(
    world: World, desk: Operators
) -> None:
    token = desk.sign_in("root", PASSWORD, HERE).token
    session = desk.find_session(token)
    assert session is not None and session.must_enrol
    enrol(world)
    session = desk.find_session(token)
    assert session is not None and not session.must_enrol
    analyst = desk.find_session(desk.sign_in("lin", PASSWORD, HERE).token)
    assert analyst is not None and not analyst.must_enrol


def test_the_key_fits_the_uri_and_counts_only_once_it_is_confirmed(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        enrolment = second_factor.begin(tx, world.vault, "root")
    assert f"secret={enrolment.key}&" in enrolment.uri and enrolment.uri.startswith("otpauth://totp/Watchfloor%3Aroot?")
    assert desk.sign_in("root", PASSWORD, HERE).token
    with world.store.tx("root") as tx, pytest.raises(CodeWrong):
        second_factor.confirm(tx, world.vault, "root", "000000")
    with world.store.tx("root") as tx:
        assert len(second_factor.confirm(tx, world.vault, "root", Phone(world, enrolment.key).code())) == 10
    with world.store.tx("root") as tx, pytest.raises(Conflict):
        second_factor.begin(tx, world.vault, "root")


def test_password_and_code_sign_in_and_each_alone_does_not(world: World, desk: Operators) -> None:
    phone, _ = enrol(world)
    asked = challenge(desk)
    assert desk.answer_challenge(asked, phone.code(), HERE).session.operator.id == "root"
    world.clock.pass_seconds(30)
    assert desk.sign_in("root", PASSWORD, HERE, code=phone.code()).token
    world.clock.pass_seconds(30)
    with pytest.raises(SignInFailed):
        desk.sign_in("root", "wrong", HERE, code=phone.code())
    with pytest.raises(CodeWrong):
        desk.sign_in("root", PASSWORD, HERE, code="123456")


@pytest.mark.asvs("6.5.1")
def test_a_code_counts_once_and_older_ones_not_at_all(world: World, desk: Operators) -> None:
    phone, _ = enrol(world)
    before, code = phone.code(-30), phone.code()
    assert desk.sign_in("root", PASSWORD, HERE, code=code).token
    for again in (code, before):
        with pytest.raises(CodeWrong):
            desk.sign_in("root", PASSWORD, HERE, code=again)


@pytest.mark.parametrize("ahead", [-30, 30])
def test_a_phone_may_be_half_a_minute_off(world: World, desk: Operators, ahead: int) -> None:
    phone, _ = enrol(world)
    world.clock.pass_seconds(30)
    assert desk.sign_in("root", PASSWORD, HERE, code=phone.code(ahead)).token
    world.clock.pass_seconds(120)
    with pytest.raises(CodeWrong):
        desk.sign_in("root", PASSWORD, HERE, code=phone.code(3 * ahead))


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "0" * 40, "\ud800"])
def test_what_is_no_code_is_a_wrong_one(world: World, desk: Operators, code: str) -> None:
    enrol(world)
    with pytest.raises(CodeWrong):
        desk.sign_in("root", PASSWORD, HERE, code=code)


@pytest.mark.asvs("6.5.1")
def test_each_recovery_code_signs_in_once(world: World, desk: Operators) -> None:
    _, codes = enrol(world)
    assert len(set(codes)) == 10
    assert desk.sign_in("root", PASSWORD, HERE, code=codes[3].upper()).token
    with pytest.raises(CodeWrong):
        desk.sign_in("root", PASSWORD, HERE, code=codes[3])
    assert desk.sign_in("root", PASSWORD, HERE, code=codes[4]).token


@pytest.mark.asvs("6.3.1")
def test_guessing_codes_is_slowed_down_like_guessing_passwords(world: World, desk: Operators) -> None:
    phone, _ = enrol(world)
    for _ in range(5):
        with pytest.raises(CodeWrong):
            desk.sign_in("root", PASSWORD, HERE, code="000000")
    with pytest.raises(Unavailable):
        desk.sign_in("root", PASSWORD, HERE, code=phone.code())
    failed = world.audit("operator:sign-in-failed")
    assert [entry["detail"]["reason"] for entry in failed] == ["wrong_code"] * 5


@pytest.mark.asvs("6.5.1")
def test_a_challenge_is_for_one_account_one_address_one_password_and_five_minutes(
    world: World, desk: Operators
) -> None:
    phone, _ = enrol(world)
    asked = challenge(desk)
    operator, expires, seal = asked.rsplit(".", 2)
    forged = [
        f"lin.{expires}.{seal}", f"{operator}.{int(expires) + 60}.{seal}", f"{operator}.{expires}.{'0' * 64}",
        asked[:-1], "", "..", "root", "root.999999999999.é",
    ]  # fmt: skip
    for wrong in forged:
        with pytest.raises(SignInFailed):
            desk.answer_challenge(wrong, phone.code(), HERE)
    with pytest.raises(SignInFailed):
        desk.answer_challenge(asked, phone.code(), "10.9.9.9")
    with world.store.tx("root") as tx:
        operators.set_password(tx, "root", desk.passwords.hash("another " + PASSWORD))
    with pytest.raises(SignInFailed):
        desk.answer_challenge(asked, phone.code(), HERE)
    with pytest.raises(SecondFactorRequired) as caught:
        desk.sign_in("root", "another " + PASSWORD, HERE)
    world.clock.pass_seconds(301)
    with pytest.raises(SignInFailed):
        desk.answer_challenge(caught.value.challenge, phone.code(), HERE)


@pytest.mark.asvs("16.2.5")
def test_neither_key_nor_codes_stand_in_the_audit_log(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        key = second_factor.begin(tx, world.vault, "root").key
        codes = second_factor.confirm(tx, world.vault, "root", Phone(world, key).code())
    text = str([entry for action in ("operator:begin-second-factor", "operator:add-second-factor")
                for entry in world.audit(action)])  # fmt: skip
    assert key not in text and not any(code in text for code in codes)
