"""The audit log's chain: an untouched log verifies, and whatever is done to one is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.cli.audit import audit as command
from watchfloor.model.errors import Corrupt, InputError
from watchfloor.model.people import RiskLevel
from watchfloor.storage import audit, audit_files
from watchfloor.storage.audit import GENESIS, Checkpoint, FaultKind, Report, Row, Signer
from watchfloor.storage.control import SqlControlStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIGNER = Signer(Ed25519PrivateKey.generate())
STRANGER = Signer(Ed25519PrivateKey.generate())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CONTENTS = st.tuples(st.sampled_from(["ada", "eve"]), st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=1))


def chain(contents: Sequence[tuple[str, Any]], start: Row | None = None) -> list[Row]:
    """Rows that follow ``start``, properly chained."""
    rows: list[Row] = []
    previous = start
    for actor, detail in contents:
        seq = previous.seq + 1 if previous else 1
        draft = Row(seq, 1_000_000 + seq, actor, "a:b", "c", detail, previous.hash if previous else GENESIS, "")
        previous = rehash(draft)
        rows.append(previous)
    return rows


def rehash(row: Row) -> Row:
    return replace(row, hash=row.computed_hash())


def rechain(rows: Sequence[Row]) -> list[Row]:
    """``rows`` numbered and chained anew, as somebody who knows the format would."""
    return chain([(row.actor, row.detail) for row in rows])


def sign(rows: Sequence[Row], every: int, signer: Signer = SIGNER) -> list[Checkpoint]:
    return [signer.sign(r.seq, r.hash, NOW) for r in rows if r.seq % every == 0 or r is rows[-1]]


def verify(rows: Sequence[Row], checkpoints: Sequence[Checkpoint] | None) -> Report:
    return audit.verify(rows, checkpoints, SIGNER.public_key)


def names(report: Report, seq: int) -> bool:
    return any(fault.first <= seq <= fault.last for fault in report.faults)


@st.composite
def logs(draw: st.DrawFn, at_least: int = 1) -> tuple[list[Row], list[Checkpoint], int]:
    """A log, its checkpoints (the last entry among them) and an entry of it, by index."""
    rows = chain(draw(st.lists(CONTENTS, min_size=at_least, max_size=12)))
    return rows, sign(rows, draw(st.integers(1, 5))), draw(st.integers(0, len(rows) - 1))


# -- laws ---------------------------------------------------------------------------------------------------------


@given(logs())
def test_an_untouched_log_verifies(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, checkpoints, _ = log
    report = verify(rows, checkpoints)
    assert report.is_intact
    assert (report.entries, report.vouched, report.head) == (len(rows), len(rows), rows[-1].hash)


@given(JSON)
def test_a_hash_is_the_same_before_and_after_the_detail_was_stored(detail: Any) -> None:
    plain = audit.plain(detail)
    assert audit.canonical(json.loads(json.dumps(plain))) == audit.canonical(plain)


@pytest.mark.asvs("16.4.2")
@given(logs(), st.sampled_from(["at", "actor", "action", "subject", "detail", "prev_hash", "hash"]), JSON)
def test_an_edited_entry_is_named(log: tuple[list[Row], list[Checkpoint], int], column: str, value: Any) -> None:
    rows, checkpoints, n = log
    forged = replace(rows[n], **{column: value})
    if json.dumps(forged.to_json()) == json.dumps(rows[n].to_json()):
        return
    report = verify([*rows[:n], forged, *rows[n + 1 :]], checkpoints)
    assert any(fault.kind is FaultKind.EDITED and fault.first == n + 1 for fault in report.faults)


@given(logs())
def test_an_edited_entry_with_a_fitting_hash_is_named(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, checkpoints, n = log
    forged = rehash(replace(rows[n], actor=rows[n].actor + "x"))
    assert names(verify([*rows[:n], forged, *rows[n + 1 :]], checkpoints), n + 1)


@given(logs())
def test_a_log_written_anew_from_some_entry_on_is_named(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, checkpoints, n = log
    forged = rechain([*rows[:n], replace(rows[n], actor=rows[n].actor + "x"), *rows[n + 1 :]])
    assert verify(forged, None).is_intact
    assert names(verify(forged, checkpoints), n + 1)


@pytest.mark.asvs("16.4.2")
@given(logs())
def test_a_log_written_anew_and_signed_with_another_key_is_named(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, _, n = log
    forged = rechain([*rows[:n], replace(rows[n], actor=rows[n].actor + "x"), *rows[n + 1 :]])
    report = verify(forged, sign(forged, 3, STRANGER))
    assert {fault.kind for fault in report.faults} == {FaultKind.FORGED}
    assert report.vouched == 0


@pytest.mark.asvs("16.4.2")
@given(logs(at_least=2))
def test_a_deleted_entry_is_named(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, checkpoints, n = log
    kept = [*rows[:n], *rows[n + 1 :]]
    assert names(verify(kept, checkpoints), n + 1)
    # Where neighbours say the same, nobody can tell which of them went.
    assert not verify(rechain(kept), checkpoints).is_intact


@pytest.mark.asvs("16.4.2")
@given(logs())
def test_a_log_that_was_cut_off_is_named(log: tuple[list[Row], list[Checkpoint], int]) -> None:
    rows, checkpoints, n = log
    report = verify(rows[:n], checkpoints)
    assert [(fault.kind, fault.first, fault.last) for fault in report.faults] == [
        (FaultKind.TRUNCATED, n + 1, len(rows))
    ]


@pytest.mark.asvs("16.4.2")
@given(logs(at_least=2), st.integers(0, 11))
def test_entries_that_changed_places_are_named(log: tuple[list[Row], list[Checkpoint], int], other: int) -> None:
    rows, checkpoints, n = log
    other %= len(rows)
    if other == n:
        return
    first, last = sorted((n, other))
    lines = list(rows)
    lines[first], lines[last] = rows[last], rows[first]
    report = verify(lines, checkpoints)
    assert any(fault.kind is FaultKind.REORDERED and fault.first == first + 1 for fault in report.faults)
    assert not any(fault.kind is FaultKind.MISSING for fault in report.faults)
    # In a database the places are the numbers.
    numbered = list(rows)
    numbered[first] = replace(rows[last], seq=first + 1)
    numbered[last] = replace(rows[first], seq=last + 1)
    report = verify(numbered, checkpoints)
    assert names(report, first + 1)
    assert names(report, last + 1)


@pytest.mark.asvs("16.4.2")
@given(logs(), st.integers(0, 12))
def test_an_entry_that_stands_twice_is_named(log: tuple[list[Row], list[Checkpoint], int], place: int) -> None:
    rows, checkpoints, n = log
    lines = list(rows)
    lines.insert(place % (len(rows) + 1), rows[n])
    assert any(fault.kind is FaultKind.REORDERED for fault in verify(lines, checkpoints).faults)


@given(logs(), st.data())
def test_a_checkpoint_that_was_changed_is_named(
    log: tuple[list[Row], list[Checkpoint], int], data: st.DataObject
) -> None:
    rows, checkpoints, _ = log
    n = data.draw(st.integers(0, len(checkpoints) - 1))
    change: Callable[[Checkpoint], Checkpoint] = data.draw(
        st.sampled_from(
            [
                lambda c: replace(c, seq=c.seq + 1),
                lambda c: replace(c, hash=GENESIS),
                lambda c: replace(c, at="2020-01-01T00:00:00.000+00:00"),
                lambda c: replace(c, key="0" * 16),
                lambda c: replace(c, signature=c.signature[:-4] + "AAA="),
                lambda c: replace(c, signature="é"),
            ]
        )
    )
    forged = [*checkpoints[:n], change(checkpoints[n]), *checkpoints[n + 1 :]]
    assert FaultKind.FORGED in {fault.kind for fault in verify(rows, forged).faults}


def test_old_and_repeated_checkpoints_do_no_harm() -> None:
    rows = chain([("ada", {})] * 6)
    checkpoints = sign(rows, 2)
    assert verify(rows, [*reversed(checkpoints), *checkpoints]).is_intact


def test_a_fault_does_not_hide_the_next() -> None:
    rows = chain([("ada", {})] * 30)
    damaged = [replace(r, actor="eve") if r.seq in (5, 20) else r for r in rows if r.seq not in (10, 11)]
    report = verify(damaged[:-2], sign(rows, 10))
    assert [str(fault) for fault in report.faults] == [
        "row 5 was edited: its content does not have its hash",
        "rows 10 to 11 are missing",
        "row 20 was edited: its content does not have its hash",
        "the log ends too early: rows 29 to 30 were there when the checkpoint of 2026-03-01T12:00:00.000+00:00 was "
        "signed",
    ]


def test_a_log_without_its_beginning_is_named_even_if_it_was_renumbered() -> None:
    rows = chain([("ada", {})] * 3)
    assert names(verify(rows[1:], None), 1)
    moved = rehash(replace(rows[1], seq=1))
    assert names(verify([moved], None), 1)


# -- what may stand in an entry -----------------------------------------------------------------------------------


def test_nouns_of_the_model_may_stand_in_a_detail_and_other_things_not() -> None:
    assert audit.plain({"risk": RiskLevel.HIGH, "at": NOW, "set": {"b", "a"}, "t": (1, None)}) == {
        "risk": "high",
        "at": "2026-03-01T12:00:00+00:00",
        "set": ["a", "b"],
        "t": [1, None],
    }
    for wrong in (b"secret", object(), {"x": b""}):
        with pytest.raises(TypeError, match="cannot stand in an audit entry"):
            audit.plain(wrong)
    with pytest.raises(ValueError, match="JSON compliant"):
        audit.canonical(float("nan"))


@pytest.mark.asvs("16.4.1")
def test_text_that_would_fake_a_line_is_made_visible() -> None:
    assert audit.visible("ada\n2026 root block") == "ada\\n2026 root block"
    assert audit.visible("\x00\u202e\ud800") == "\\x00\\u202e\\ud800"
    assert audit.visible("Zoë 📨") == "Zoë 📨"


# -- keys and files -----------------------------------------------------------------------------------------------


def test_a_signer_leaves_its_public_key_beside_it(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path / "audit.key")
    again = Signer.open(tmp_path / "audit.key")
    public = audit.load_public_key(tmp_path / "audit.pub")
    assert signer.key_id == again.key_id == audit.fingerprint(public)
    assert audit.fingerprint(audit.load_public_key(tmp_path / "audit.key")) == signer.key_id
    assert b"PRIVATE" not in (tmp_path / "audit.pub").read_bytes()


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    for name in ("audit.key", "audit.pub"):
        (tmp_path / name).write_text("-----BEGIN NONSENSE-----")
        (tmp_path / name).chmod(0o600)
    with pytest.raises(Corrupt, match="no private key"):
        Signer.open(tmp_path / "audit.key")
    with pytest.raises(InputError, match="no Ed25519 key"):
        audit.load_public_key(tmp_path / "audit.pub")


def test_half_a_line_at_the_end_is_dropped_and_the_next_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints"
    rows = chain([("ada", {})] * 2)
    checkpoints = audit_files.Checkpoints(SIGNER, path)
    checkpoints.vouch(rows[:1], NOW)
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "ha')
    assert audit_files.read_checkpoints(path) == ([SIGNER.sign(1, rows[0].hash, NOW)], [])
    checkpoints = audit_files.Checkpoints(SIGNER, path)
    assert checkpoints.last_seq == 1
    checkpoints.vouch(rows, NOW)
    assert [c.seq for c in audit_files.read_checkpoints(path)[0]] == [1, 2]


def test_a_forged_checkpoint_in_the_file_is_not_built_upon(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints"
    path.write_bytes(STRANGER.sign(9, GENESIS, NOW).to_line() + SIGNER.sign(2, GENESIS, NOW).to_line())
    assert audit_files.Checkpoints(SIGNER, path).last_seq == 2


def test_checkpoints_that_cannot_be_written_are_a_problem_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    checkpoints = audit_files.Checkpoints(SIGNER, tmp_path / "no such directory" / "checkpoints")
    checkpoints.vouch(chain([("ada", {})]), NOW)
    assert "cannot write audit checkpoints" in str(checkpoints.problem)
    assert checkpoints.last_seq == 0


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that has been stopped."""
    data = tmp_path_factory.mktemp("template")
    checkpoints = audit_files.Checkpoints.open(data / "keys" / "audit.key", data / "audit-checkpoints.jsonl")
    store = SqlControlStore.open(str(data / "control.db"), epoch=None, checkpoints=checkpoints)
    for n in range(7):
        with store.tx("ada") as tx:
            tx.audit("agent:block", f"agent/{n}", {"n": n})
    store.close()
    return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(template, tmp_path / "data"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def tamper(data: Path, statement: str) -> None:
    with closing(sqlite3.connect(data / "control.db")) as connection:
        connection.execute(statement)
        connection.commit()


def test_an_intact_log_is_called_intact(data: Path) -> None:
    result = run("verify", "--data", data)
    assert result.exit_code == 0
    assert "The audit log is intact: 7 entries" in result.output
    assert "up to 7" in result.output


def test_a_tampered_log_is_not_and_the_rows_are_named(data: Path) -> None:
    tamper(data, "UPDATE audit SET subject = 'agent/99' WHERE seq = 3")
    tamper(data, "DELETE FROM audit WHERE seq = 7")
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "NOT intact" in result.output
    assert "row 3 was edited" in result.output
    assert "row 7 was there when the checkpoint" in result.output
    report = json.loads(run("verify", "--data", data, "--json").output)
    assert (report["intact"], report["entries"]) == (False, 6)
    assert [(f["kind"], f["first"], f["last"]) for f in report["faults"]] == [("edited", 3, 3), ("truncated", 7, 7)]


@pytest.mark.parametrize("value", ["'{'", "'\"\\ud800\"'", "NULL || ''", "x'ff00'", "'" + "[" * 5000 + "'"])
def test_a_detail_that_is_no_json_is_named(data: Path, value: str) -> None:
    with closing(sqlite3.connect(data / "control.db")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'audit'")
        connection.commit()
    tamper(data, f"UPDATE audit SET detail = {value} WHERE seq = 3")
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "row 3 was edited" in result.output


def test_an_export_verifies_elsewhere_with_the_public_key_alone(data: Path, tmp_path: Path) -> None:
    lines = run("export", "--data", data).output.splitlines()
    log = tmp_path / "log.jsonl"
    elsewhere = partial(
        run,
        "verify",
        "--log",
        log,
        "--checkpoints",
        data / "audit-checkpoints.jsonl",
        "--key",
        data / "keys" / "audit.pub",
    )
    log.write_text("\n".join(lines) + "\n")
    assert elsewhere().exit_code == 0
    log.write_text("\n".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert "row 3 stands out of order" in elsewhere().output
    log.write_text("\n".join([*lines[:2], "what?", *lines[3:]]))
    output = elsewhere().output
    assert "line 3 of" in output
    assert "row 3 is missing" in output


@pytest.mark.asvs("16.4.3")
def test_a_lost_checkpoint_file_is_a_fault_where_there_should_be_one(data: Path) -> None:
    (data / "audit-checkpoints.jsonl").unlink()
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "no checkpoint vouches for the log" in result.output


def test_without_checkpoints_it_says_what_it_cannot_see(data: Path) -> None:
    tamper(data, "DELETE FROM audit WHERE seq = 7")
    result = run("verify", "--database", data / "control.db")
    assert result.exit_code == 0
    assert "No checkpoints were given" in result.output


def test_checkpoints_of_another_installation_are_forged(data: Path) -> None:
    (data / "audit-checkpoints.jsonl").write_bytes(STRANGER.sign(7, GENESIS, NOW).to_line())
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "does not carry the signature of the audit key" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--database", "a", "--log", "b"], "give one"),
        (["--database", "a", "--checkpoints", "b"], "needs --key"),
        (["--database", "/nowhere/control.db"], "does not exist"),
        (["--database", "mysql://x"], "postgresql://USER@HOST/NAME"),
        (["--log", "/nowhere/log"], "cannot read the export"),
    ],
)
def test_what_cannot_be_checked_is_neither_intact_nor_faulty(arguments: list[str], said: str) -> None:
    result = run("verify", *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_verifying_changes_nothing(data: Path) -> None:
    before = {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert run("verify", "--data", data).exit_code == 0
    assert {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
