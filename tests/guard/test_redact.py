"""What goes out after redaction."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor.guard.redact import apply
from watchfloor.model.verdicts import Redaction

PAIRS: list[tuple[Any, list[Redaction], Any]] = [
    ({"a": "0123456789"}, [Redaction(("a",), (2, 4), "#")], {"a": "01#456789"}),
    ({"a": "0123456789"}, [Redaction(("a",), (7, 9), "2"), Redaction(("a",), (1, 3), "1")], {"a": "0134562" + "9"}),
    ({"a": "0123456789"}, [Redaction(("a",), (2, 5), "#"), Redaction(("a",), (4, 8), "+")], {"a": "01#89"}),
    ({"a": "0123456789"}, [Redaction(("a",), (2, 8), "#"), Redaction(("a",), (3, 4), "+")], {"a": "01#89"}),
    ({"a": "0123456789"}, [Redaction(("a",), (2, 4), "#"), Redaction(("a",), (4, 6), "+")], {"a": "01#6789"}),
    ({"a": "0123"}, [Redaction(("a",), (2, 99), "#")], {"a": "01#"}),
    ({"a": "0123"}, [Redaction(("a",), (-5, 2), "#")], {"a": "#23"}),
    ({"a": "0123"}, [Redaction(("a",), (3, 1), "#"), Redaction(("a",), (9, 12), "#")], {"a": "0123"}),
    ({"a": [{"b": ["x", "secret"]}]}, [Redaction(("a", 0, "b", 1), (0, 6), "#")], {"a": [{"b": ["x", "#"]}]}),
    ({"a": "x", "b": "y"}, [Redaction(("a",), (0, 1), "#"), Redaction(("b",), (0, 1), "+")], {"a": "#", "b": "+"}),
    ({"a": 12345}, [Redaction(("a",), (0, 2), "#")], {"a": "#"}),
    ({"a": {"b": "x"}}, [Redaction(("a",), (0, 2), "#")], {"a": "#"}),
    ({"a": "x"}, [Redaction(("b",), (0, 1), "#")], {"a": "x"}),
    ({"a": ["x"]}, [Redaction(("a", 7), (0, 1), "#"), Redaction(("a", "0"), (0, 1), "#")], {"a": ["x"]}),
    ({"a": "x"}, [Redaction(("a", "b"), (0, 1), "#")], {"a": "x"}),
    ({"": "x"}, [Redaction(("",), (0, 1), "#")], {"": "#"}),
]


@pytest.mark.parametrize(("arguments", "redactions", "expected"), PAIRS)
def test_redaction_gives_what_it_says_in_any_order(
    arguments: dict[str, Any], redactions: list[Redaction], expected: dict[str, Any]
) -> None:
    before = repr(arguments)
    assert apply(arguments, redactions) == expected
    assert apply(arguments, reversed(redactions)) == expected
    assert repr(arguments) == before
