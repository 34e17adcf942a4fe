"""The vault: a sealed text opens with its key in its place, and nowhere else."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model.errors import Corrupt, Unavailable
from watchfloor.storage.vault import Vault

VAULT = Vault(bytes(range(32)))


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_is_sealed_opens_again(secret: bytes, aad: str) -> None:
    assert VAULT.unseal(VAULT.seal(secret, aad), aad) == secret


@given(st.binary(max_size=50), st.integers(0, 10_000), st.integers(1, 255))
def test_a_sealed_text_with_any_byte_changed_does_not_open(secret: bytes, place: int, flip: int) -> None:
    raw = bytearray(base64.b64decode(VAULT.seal(secret, "crd")))
    raw[place % len(raw)] ^= flip
    with pytest.raises(Corrupt, match="does not open"):
        VAULT.unseal(base64.b64encode(raw).decode(), "crd")


def test_a_sealed_text_does_not_open_in_another_place_or_with_another_key() -> None:
    sealed = VAULT.seal(b"token", "mail")
    with pytest.raises(Corrupt, match="'billing'"):
        VAULT.unseal(sealed, "billing")
    with pytest.raises(Corrupt, match="another key"):
        Vault(bytes(32)).unseal(sealed, "mail")
    assert VAULT.unseal(sealed, "mail") == b"token"


@pytest.mark.parametrize("text", ["", "AQ==", "not base64!", "AAAA", "é"])
def test_what_was_never_sealed_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Corrupt) as caught:
        VAULT.unseal(text, "mail")
    assert not text or text not in str(caught.value)


def test_sealing_twice_gives_different_texts() -> None:
    assert VAULT.seal(b"same", "a") != VAULT.seal(b"same", "a")


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "vault.key"
    sealed = Vault.open(path).seal(b"s", "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(path.read_bytes()) == 32
    assert Vault.open(path).unseal(sealed, "a") == b"s"
    assert [file.name for file in path.parent.iterdir()] == ["vault.key"]


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    Vault.open(path)
    path.chmod(0o644)
    with pytest.raises(Unavailable, match=r"chmod 600 .*vault\.key"):
        Vault.open(path)
    path.chmod(0o440)
    Vault.open(path)


def test_a_worker_that_must_find_a_key_does_not_make_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        Vault.open(tmp_path / "vault.key", create=False)
    assert not (tmp_path / "vault.key").exists()


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(Corrupt, match="no vault key"):
        Vault.open(path)


def test_derived_keys_are_stable_and_differ_by_purpose_and_key() -> None:
    assert VAULT.derive("cookies") == Vault(bytes(range(32))).derive("cookies")
    assert len({VAULT.derive("cookies"), VAULT.derive("csrf"), Vault(bytes(32)).derive("cookies")}) == 3
    assert len(VAULT.derive("cookies")) == 32
