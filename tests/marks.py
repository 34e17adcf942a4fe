"""What tests say of themselves by their marks, read from their source: those that cannot run here count, too."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def marked(name: str) -> dict[str, list[str]]:
    """What ``@pytest.mark.<name>("…")`` names, each with its tests: ``path::function``, or ``path`` of a whole file."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        where = path.relative_to(TESTS).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks, named = node.decorator_list, f"{where}::{node.name}"
            elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "pytestmark" for t in node.targets):
                marks, named = [node.value], where
            else:
                continue
            for value in [value for mark in marks for value in _values(mark, name)]:
                found.setdefault(value, []).append(named)
    return found


def _values(node: ast.AST, name: str) -> list[str]:
    return [
        str(argument.value)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == name
        if isinstance(call.func.value, ast.Attribute) and call.func.value.attr == "mark"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    ]
