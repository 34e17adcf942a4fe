"""Operators: accounts, sign-in, sessions, API tokens, the local administrator."""

from __future__ import annotations

import stat
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from watchfloor.identity import operators
from watchfloor.identity.operators import LOCAL_ADMIN, Operators, SignInFailed
from watchfloor.identity.passwords import Passwords
from watchfloor.model.errors import Conflict, InputError, NotFound, Unavailable
from watchfloor.model.people import Permission, Role
from watchfloor.storage import people

from .world import World

PASSWORD = "correct horse battery staple"


@pytest.fixture
def passwords() -> Passwords:
    """Cheap hashes: what they cost is measured elsewhere."""
    return Passwords(memory_kib=64)


@pytest.fixture
def desk(world: World, passwords: Passwords) -> Iterator[Operators]:
    """Operators with one analyst, lin, and one owner, root."""
    with world.store.tx("setup") as tx:
        operators.create(tx, "lin", passwords.hash(PASSWORD), [Role.SOC_OPERATOR])
        operators.create(tx, "root", passwords.hash("root's own " + PASSWORD), [Role.OWNER])
    yield Operators(world.store, world.vault, passwords=passwords, clock=world.clock.monotonic)


def sign_in(
    desk: Operators, name: str = "lin", password: str = PASSWORD, address: str = "10.0.0.1"
) -> operators.SignedIn:
    return desk.sign_in(name, password, address)


# -- signing in ---------------------------------------------------------------------------------------------------


def test_the_right_password_gives_a_session_with_the_operators_permissions(desk: Operators) -> None:
    signed_in = sign_in(desk)
    session = desk.find_session(signed_in.token)
    assert session is not None
    assert session.operator.id == "lin"
    assert Permission.USER_REVOKE in session.permissions and Permission.POLICY_WRITE not in session.permissions


def test_names_are_not_case_sensitive(desk: Operators) -> None:
    assert sign_in(desk, " LIN ").session.operator.id == "lin"


@pytest.mark.asvs("6.3.8")
@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("lin", "wrong"),
        ("lin", ""),
        ("lin", PASSWORD + " "),
        ("lin", PASSWORD.upper()),
        ("lin", "x" * 100_000),
        ("nobody", PASSWORD),
        ("", ""),
        ("root", PASSWORD),
    ],
)
def test_anything_else_is_refused_with_the_same_words(desk: Operators, name: str, password: str) -> None:
    with pytest.raises(SignInFailed, match="The name or the password is wrong"):
        sign_in(desk, name, password)


def test_a_disabled_operator_cannot_sign_in(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        operators.set_enabled(tx, "lin", False)
    with pytest.raises(SignInFailed):
        sign_in(desk)
    with world.store.tx("root") as tx:
        operators.set_enabled(tx, "lin", True)
    assert sign_in(desk).token


def test_an_operator_without_a_password_cannot_sign_in(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        operators.create(tx, "robot", None, [Role.AUDITOR])
    for password in ("", "nobody's password", "None"):
        with pytest.raises(SignInFailed):
            sign_in(desk, "robot", password)


@pytest.mark.asvs("6.3.8")
def test_an_unknown_name_takes_as_long_as_a_wrong_password(world: World) -> None:
    passwords = Passwords()
    with world.store.tx("setup") as tx:
        operators.create(tx, "lin", passwords.hash(PASSWORD), [Role.OWNER])
    desk = Operators(world.store, world.vault, passwords=passwords, clock=world.clock.monotonic)

    def seconds(name: str) -> float:
        world.clock.pass_seconds(600)
        started = time.thread_time()
        with pytest.raises(SignInFailed):
            sign_in(desk, name, "wrong password")
        return time.thread_time() - started

    known, unknown = [], []
    for _ in range(9):
        known.append(seconds("lin"))
        unknown.append(seconds("nobody"))
    # In CPU time of this thread. Without the work for nobody's password the ratio is near 0.1.
    assert 0.5 < statistics.median(unknown) / statistics.median(known) < 2


@pytest.mark.asvs("6.3.1")
def test_wrong_passwords_are_slowed_down_for_that_address_and_account(world: World, desk: Operators) -> None:
    for _ in range(5):
        with pytest.raises(SignInFailed):
            sign_in(desk, password="wrong")
    with pytest.raises(Unavailable, match="Wait a few minutes") as caught:
        sign_in(desk)
    assert 0 < caught.value.retry_after <= 300
    # Neither somebody else at that address, nor lin elsewhere, is kept out.
    assert sign_in(desk, "root", "root's own " + PASSWORD).token
    assert sign_in(desk, address="10.0.0.2").token
    world.clock.pass_seconds(300)
    assert sign_in(desk).token


@pytest.mark.asvs("6.3.1")
def test_guessing_many_accounts_from_one_address_is_slowed_down(desk: Operators) -> None:
    for number in range(30):
        with pytest.raises(SignInFailed):
            sign_in(desk, f"user-{number}", "wrong")
    with pytest.raises(Unavailable):
        sign_in(desk)
    assert sign_in(desk, address="10.0.0.2").token


def test_a_good_sign_in_forgets_the_failures_before_it(desk: Operators) -> None:
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(SignInFailed):
                sign_in(desk, password="wrong")
        assert sign_in(desk).token


@pytest.mark.asvs("6.3.1")
def test_a_flood_of_sign_ins_waits_in_line_and_then_is_turned_away() -> None:
    passwords = Passwords(concurrent=1, wait_seconds=0.05, memory_kib=64)
    passwords._pool.acquire()  # somebody is being checked
    with pytest.raises(Unavailable, match="Too many people"):
        passwords.matches(None, "x")
    passwords._pool.release()
    assert not passwords.matches(None, "x")


def test_no_more_passwords_are_hashed_at_once_than_allowed() -> None:
    passwords = Passwords(concurrent=2, wait_seconds=30, memory_kib=1024)
    stored = passwords.hash(PASSWORD)
    busy, most, lock = 0, 0, threading.Lock()
    enter, leave = passwords._pool.acquire, passwords._pool.release

    class Pool:
        def acquire(self, timeout: float) -> bool:
            nonlocal busy, most
            got = enter(timeout=timeout)
            with lock:
                busy += 1
                most = max(most, busy)
            return got

        def release(self) -> None:
            nonlocal busy
            with lock:
                busy -= 1
            leave()

    passwords._pool = Pool()  # type: ignore[assignment]  # counts who is inside
    threads = [threading.Thread(target=passwords.matches, args=(stored, PASSWORD)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 2


# -- passwords ----------------------------------------------------------------------------------------------------


def test_passwords_are_argon2id_with_the_parameters_of_the_design() -> None:
    assert Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(("length", "is_good"), [(11, False), (12, True), (256, True), (257, False)])
def test_a_password_has_12_to_256_characters(passwords: Passwords, length: int, is_good: bool) -> None:
    if is_good:
        assert passwords.matches(passwords.hash("p" * length), "p" * length)
    else:
        with pytest.raises(InputError, match="12 to 256"):
            passwords.hash("p" * length)


def test_a_stored_hash_that_is_none_matches_nothing(passwords: Passwords) -> None:
    for stored in ("", "plain text", "$argon2id$broken"):
        assert not passwords.matches(stored, PASSWORD)


# -- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.asvs("7.3.1")
def test_a_session_ends_after_half_an_hour_without_use_and_lives_on_with_it(world: World, desk: Operators) -> None:
    idle, used = sign_in(desk).token, sign_in(desk).token
    for _ in range(2):
        world.clock.pass_seconds(15 * 60)
        assert desk.find_session(used)
    assert desk.find_session(idle) is None
    world.clock.pass_seconds(29 * 60)
    assert desk.find_session(used)


@pytest.mark.asvs("7.3.2")
def test_a_session_ends_after_twelve_hours_even_in_use(world: World, desk: Operators) -> None:
    token = sign_in(desk).token
    for _ in range(47):
        world.clock.pass_seconds(15 * 60)
        assert desk.find_session(token)
    world.clock.pass_seconds(15 * 60)
    assert desk.find_session(token) is None


def test_use_is_noted_at_most_once_a_minute(world: World, desk: Operators) -> None:
    signed_in = sign_in(desk)

    def seen() -> float:
        with world.store.read() as tx:
            stored = people.find_session(tx, signed_in.session.token_hash)
            assert stored is not None
            return stored.seen_at.timestamp()

    first = seen()
    world.clock.pass_seconds(59)
    desk.find_session(signed_in.token)
    assert seen() == first
    world.clock.pass_seconds(1)
    desk.find_session(signed_in.token)
    assert seen() == first + 60


def test_signing_out_ends_this_session_only(desk: Operators) -> None:
    one, two = sign_in(desk), sign_in(desk)
    desk.sign_out(one.session)
    assert desk.find_session(one.token) is None
    assert desk.find_session(two.token)
    desk.sign_out(one.session)  # twice does no harm


@pytest.mark.asvs("7.2.3")
def test_every_sign_in_gives_fresh_secrets(desk: Operators) -> None:
    one, two = sign_in(desk), sign_in(desk)
    assert len({one.token, two.token, one.session.csrf_token, two.session.csrf_token}) == 4
    assert len(one.token) >= 43


def test_a_csrf_token_fits_its_own_session_only(desk: Operators) -> None:
    one, two = sign_in(desk).session, sign_in(desk).session
    assert one.csrf_matches(one.csrf_token)
    assert not one.csrf_matches(two.csrf_token)
    assert not one.csrf_matches("")
    assert not one.csrf_matches("ü")


@pytest.mark.asvs("7.2.1")
@pytest.mark.parametrize("token", ["", "wfs_", "x" * 10_000, "wfs_ü"])
def test_made_up_tokens_are_nobodys(desk: Operators, token: str) -> None:
    assert desk.find_session(token) is None


@pytest.mark.asvs("16.2.5")
def test_neither_tokens_nor_passwords_are_stored_or_logged(world: World, desk: Operators) -> None:
    signed_in = sign_in(desk)
    with world.store.tx("root") as tx:
        api = operators.issue_api_token(tx, "lin", "ci")
    world.store.close()
    content = b"".join(path.read_bytes() for path in world.directory.glob("control.db*"))
    for secret in (signed_in.token, api.token, PASSWORD):
        assert secret.encode() not in content
    world.store = type(world.store).open(f"sqlite:///{world.directory}/control.db", epoch=None)
    text = str(world.audit())
    for secret in (signed_in.token, signed_in.session.token_hash, signed_in.session.csrf_token, "argon2"):
        assert secret not in text


@pytest.mark.asvs("7.4.2", "8.3.2")
@pytest.mark.parametrize("how", ["disable", "roles", "password", "end"])
def test_what_an_operator_may_no_longer_do_ends_with_their_sessions(
    world: World, desk: Operators, passwords: Passwords, how: str
) -> None:
    session = sign_in(desk).token
    with world.store.tx("root") as tx:
        api = operators.issue_api_token(tx, "lin", "ci").token
    other = sign_in(desk, "root", "root's own " + PASSWORD).token
    assert desk.find_session(session) and desk.find_session(api)
    with world.store.tx("root") as tx:
        match how:
            case "disable":
                operators.set_enabled(tx, "lin", False)
            case "roles":
                operators.set_roles(tx, "lin", [Role.AUDITOR])
            case "password":
                operators.set_password(tx, "lin", passwords.hash("another " + PASSWORD))
            case _:
                assert operators.end_sessions(tx, "lin") == 2
    assert desk.find_session(session) is None and desk.find_session(api) is None
    assert desk.find_session(other)


def test_changing_ones_own_password_keeps_the_session_at_hand(
    world: World, desk: Operators, passwords: Passwords
) -> None:
    here, elsewhere = sign_in(desk), sign_in(desk)
    with world.store.tx("lin") as tx:
        operators.set_password(tx, "lin", passwords.hash("another " + PASSWORD), keep=here.session.token_hash)
    assert desk.find_session(here.token)
    assert desk.find_session(elsewhere.token) is None
    with pytest.raises(SignInFailed):
        sign_in(desk)


def test_expired_sessions_are_forgotten_at_the_next_sign_in(world: World, desk: Operators) -> None:
    sign_in(desk)
    world.clock.pass_seconds(13 * 3600)
    sign_in(desk)
    with world.store.read() as tx:
        assert len(people.list_sessions(tx, "lin")) == 1


# -- API tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.asvs("7.2.2")
def test_an_api_token_works_until_it_expires_and_needs_no_csrf_token(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        issued = operators.issue_api_token(tx, "lin", "nightly export", timedelta(days=30))
    world.clock.pass_seconds(30 * 86_400 - 1)
    session = desk.find_session(issued.token)
    assert session is not None and session.is_api_token and session.label == "nightly export"
    assert session.csrf_matches("")
    world.clock.pass_seconds(1)
    assert desk.find_session(issued.token) is None


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(days=-1), timedelta(days=367)])
def test_a_lifetime_that_is_none_is_refused(world: World, desk: Operators, lifetime: timedelta) -> None:
    with world.store.tx("root") as tx, pytest.raises(InputError):
        operators.issue_api_token(tx, "lin", "x", lifetime)


def test_a_token_needs_a_label_and_somebody_who_may_use_it(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        with pytest.raises(InputError, match="label"):
            operators.issue_api_token(tx, "lin", " ")
        with pytest.raises(NotFound):
            operators.issue_api_token(tx, "nobody", "x")
        operators.set_enabled(tx, "lin", False)
        with pytest.raises(Conflict, match="disabled"):
            operators.issue_api_token(tx, "lin", "x")


# -- accounts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a b", "ada@zava.example", "-ada", "x" * 65, "ada/../root"])
def test_a_name_that_is_none_is_refused(world: World, name: str) -> None:
    with world.store.tx("root") as tx:
        with pytest.raises(InputError, match="sign-in name"):
            operators.create(tx, name, None, [Role.AUDITOR])
        operators.create(tx, "fine", None, [Role.AUDITOR])


@pytest.mark.parametrize("name", ["lin", "LIN", "system", "watchfloor", "unknown"])
def test_a_name_that_is_taken_or_stands_for_the_product_is_refused(world: World, desk: Operators, name: str) -> None:
    with world.store.tx("root") as tx, pytest.raises(Conflict, match="taken"):
        try:
            operators.create(tx, name, None, [Role.OWNER])
        finally:
            tx.audit("test:end", "test")


def test_the_last_owner_stays_owner_and_enabled(world: World, desk: Operators) -> None:
    with world.store.tx("root") as tx:
        with pytest.raises(Conflict, match="last owner"):
            operators.set_roles(tx, "root", [Role.AUDITOR])
        with pytest.raises(Conflict, match="last owner"):
            operators.set_enabled(tx, "root", False)
        operators.set_roles(tx, "lin", [Role.OWNER])
        operators.set_enabled(tx, "root", False)
        with pytest.raises(Conflict, match="last owner"):
            operators.set_enabled(tx, "lin", False)


# -- the local administrator --------------------------------------------------------------------------------------


def test_the_local_admins_token_is_a_private_file_and_replaced_at_each_start(world: World, desk: Operators) -> None:
    path = world.directory / "run" / "admin.token"
    desk.write_local_admin_token(path)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    session = desk.find_session(first)
    assert session is not None and session.operator.id == LOCAL_ADMIN
    assert session.permissions == frozenset(Permission)
    desk.write_local_admin_token(path)
    assert desk.find_session(first) is None
    assert desk.find_session(path.read_text()) is not None
    assert [p.name for p in path.parent.iterdir()] == ["admin.token"]


def test_the_local_admin_cannot_sign_in_with_a_password(world: World, desk: Operators) -> None:
    desk.write_local_admin_token(world.directory / "run" / "admin.token")
    with pytest.raises(SignInFailed):
        sign_in(desk, LOCAL_ADMIN, "")


def test_the_local_admin_does_not_count_as_the_last_owner(world: World, desk: Operators) -> None:
    desk.write_local_admin_token(world.directory / "run" / "admin.token")
    with world.store.tx("root") as tx:
        with pytest.raises(Conflict, match="last owner"):
            operators.set_enabled(tx, "root", False)
        tx.audit("test:end", "test")
