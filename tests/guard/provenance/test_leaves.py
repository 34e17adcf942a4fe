"""A result taken apart: fields, lines and running text."""

from __future__ import annotations

from watchfloor.guard.provenance.leaves import LeafKind, leaves

PROSE = "Dear Ann, it was a pleasure to meet you yesterday in the office. Kind regards"


def _kinds(value: object) -> dict[str, LeafKind]:
    return {leaf.value: leaf.kind for leaf in leaves(value)}


def test_short_values_of_a_record_are_fields_and_long_ones_are_text() -> None:
    kinds = _kinds({"from": "ann@zava.example", "id": 7, "read": True, "body": PROSE})
    assert kinds["ann@zava.example"] is LeafKind.FIELD
    assert kinds["7"] is LeafKind.FIELD
    assert kinds[PROSE] is LeafKind.FREE
    assert "True" not in kinds


def test_text_that_holds_json_is_taken_apart() -> None:
    found = list(leaves('{"rows": [{"mail": "ann@zava.example"}]}'))
    assert (("rows", 0, "mail"), "ann@zava.example") in [(leaf.path, leaf.value) for leaf in found]


def test_lines_of_plain_text_are_never_fields() -> None:
    kinds = _kinds(f"{PROSE}\nid: 4711\n- invoice.pdf\nreply to: thief@elsewhere.example")
    assert kinds["4711"] is LeafKind.LINE
    assert kinds["invoice.pdf"] is LeafKind.LINE
    assert kinds["thief@elsewhere.example"] is LeafKind.LINE


def test_what_is_nested_too_deeply_is_running_text() -> None:
    value: object = "ann@zava.example"
    for _ in range(100):
        value = [value]
    (leaf,) = leaves(value)
    assert leaf.kind is LeafKind.FREE and "ann@zava.example" in leaf.value
