"""Routines: what SQL has no words for, as Python that an engine calls.

A ``RoutineRef`` names one, with the types that it is called with; it travels with a compiled query to whichever process
runs it. ``physical`` gives what that process registers: a name, SQL types, and a callable over plain values. Four
kinds: a scalar function or a conversion of the function tables (called for each row), an aggregate (called with a list
for each argument), a session window, and the relational routines of ``REGISTRY`` (called once, with a list for each
column).

Values travel as BIGINT, DOUBLE, BOOLEAN and VARCHAR only: times as ticks, decimals as text, dynamic as JSON. A real
that comes back travels as text, because NaN would arrive as null.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from ctypes import c_ulong, py_object, pythonapi
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib import import_module
from inspect import Parameter, Signature
from itertools import count
from pkgutil import iter_modules
from typing import Any, Final, Literal
from zlib import crc32

Routine = Callable[[Mapping[str, Any], list[list[list[Any]]], "Budget"], Iterable[list[Any]]]
"""What a relational routine is: from its spec and the rows of its inputs to the rows of its result. Cells are as in
``values.py``."""

MAX_ROWS: Final = 5_000_000
"""More rows than this no routine may give."""


class Refused(ValueError):
    """What a routine finds in the data and cannot answer, in words."""


class OutOfTime(Exception):
    """The budget of a query is used up, or the query was given up."""


def _interrupt(thread: int, error: type[Exception] | None) -> None:
    """Let Python code of ``thread`` raise ``error`` wherever it is; None takes back what was not raised yet."""
    pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), None if error is None else py_object(error))


class Budget:
    """How long a routine may go on. ``error`` is what stopped it, for whoever started the query."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._is_cancelled = False
        self._running: dict[int, None] = {}
        self._lock = threading.Lock()
        self.error: Exception | None = None

    def cancel(self) -> None:
        """Stop the routines that run, and let the others stop at their first check. Any thread may call this."""
        with self._lock:
            self._is_cancelled = True
            for thread in list(self._running):
                _interrupt(thread, OutOfTime)

    def run(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What ``call`` gives for ``arguments``, unless the budget is used up before it is done."""
        thread = threading.get_ident()
        try:
            self.check()
            self._running[thread] = None
            return call(*arguments)
        except Exception as error:
            self.error = error
            raise
        finally:
            self._running.pop(thread, None)
            if self._is_cancelled:
                with self._lock:  # an interrupt that came too late must not hit the thread's next query
                    _interrupt(thread, None)

    def check(self) -> None:
        """Raises ``OutOfTime`` once there is none left. To be called in every loop that may be long."""
        if self._is_cancelled or (self._end is not None and time.monotonic() > self._end):
            raise OutOfTime("The query ran out of time.")


BUDGETS: Final[dict[str, Budget]] = {}
"""Budgets of the queries that run in this process, by the token that the query hands to its routines."""

_TOKENS: Final = count(1)


def open_budget(budget: Budget) -> str:
    """Make ``budget`` known; returns its token. ``BUDGETS.pop(token)`` must follow."""
    token = f"b{next(_TOKENS)}"
    BUDGETS[token] = budget
    return token


Kind = Literal["function", "conversion", "aggregate", "session", "relation"]


@dataclass(frozen=True, slots=True, order=True)
class RoutineRef:
    """A routine as a query calls it. ``takes`` and ``gives`` are KQL types; of a relation, of all columns that are
    handed over and come back, where ``inputs`` says how many belong to each input."""

    kind: Kind
    name: str
    number: int
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    inputs: tuple[int, ...] = ()

    @property
    def sql_name(self) -> str:
        """The name of its function in SQL: different for whatever differs here."""
        word = re.sub(r"\W+", "", self.name)
        digest = crc32(repr((self.kind, self.name, self.number, self.takes, self.gives, self.inputs)).encode())
        return f"kql_{word}_{digest:08x}"

    def to_wire(self) -> list[Any]:
        """As JSON."""
        return [self.kind, self.name, self.number, list(self.takes), list(self.gives), list(self.inputs)]

    @staticmethod
    def from_wire(sent: list[Any]) -> RoutineRef:
        """From JSON. Raises ``ValueError`` or ``TypeError`` if it is none."""
        kind, name, number, takes, gives, inputs = sent
        if kind not in _MAKERS or not isinstance(name, str) or not isinstance(number, int):
            raise ValueError("This is no routine.")
        unknown = {*takes, *gives} - _IN.keys()
        if unknown:
            raise ValueError(f"There is no type {min(unknown)}.")
        return RoutineRef(kind, name, number, tuple(takes), tuple(gives), tuple(int(n) for n in inputs))


@dataclass(frozen=True, slots=True)
class Physical:
    """A routine as an engine registers it. ``is_volatile``: it may not be called once for many rows."""

    sql_name: str
    arguments: tuple[str, ...]
    result: str
    call: Callable[..., Any]
    is_volatile: bool = False


def physical(ref: RoutineRef) -> Physical:
    """``ref``, ready to be registered. Raises ``LookupError`` if there is no such routine."""
    return _bounded(_MAKERS[ref.kind](ref), is_told=ref.kind == "relation")


# -- values on their way ----------------------------------------------------------------------------------------------

_IN: Final[dict[str, str]] = {
    "bool": "BOOLEAN",
    "datetime": "BIGINT",
    "decimal": "VARCHAR",
    "dynamic": "VARCHAR",
    "guid": "VARCHAR",
    "int": "BIGINT",
    "long": "BIGINT",
    "real": "DOUBLE",
    "string": "VARCHAR",
    "timespan": "BIGINT",
}
_OUT: Final[dict[str, str]] = _IN | {"real": "VARCHAR"}


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # a stored text that is no JSON is itself, as parse_json has it


def _to_json(value: Any) -> str | None:
    from watchfloor.kql.functions.convert import json_text

    return None if value is None else json_text(value)


def _to_int(value: Any) -> int:
    return int(value) if -(2**31) <= value < 2**31 else (int(value) + 2**31) % 2**32 - 2**31


def _to_long(value: Any) -> int:
    return int(value) if -(2**63) <= value < 2**63 else (int(value) + 2**63) % 2**64 - 2**63


def _to_instant(value: Any) -> int | None:
    return int(value) if 0 <= value <= 3_155_378_975_999_999_999 else None


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {"decimal": Decimal, "dynamic": _from_json}
_ENCODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "bool": bool,
    "datetime": _to_instant,
    "decimal": lambda value: f"{Decimal(value):f}",
    "dynamic": _to_json,
    "guid": str,
    "int": _to_int,
    "long": _to_long,
    "real": lambda value: repr(float(value)),
    "string": lambda value: value.encode("utf-8", "replace").decode() if not value.isascii() else value,
    "timespan": _to_long,
}


def _decoded(kind: str, values: list[Any] | None) -> list[Any]:
    """A list of cells as it came."""
    if values is None:
        return []
    if kind == "string":
        return ["" if v is None else v for v in values]
    decode = _DECODERS.get(kind)
    return values if decode is None else [None if v is None else decode(v) for v in values]


def _encoded(kind: str, value: Any) -> Any:
    return ("" if kind == "string" else None) if value is None else _ENCODERS[kind](value)


def _fixed(call: Callable[..., Any], arity: int) -> Callable[..., Any]:
    """``call`` with a signature of ``arity`` arguments, as engines read it."""
    signature = Signature([Parameter(f"a{n}", Parameter.POSITIONAL_ONLY) for n in range(arity)])
    vars(call)["__signature__"] = signature
    return call


# -- the kinds --------------------------------------------------------------------------------------------------------


def _bounded(found: Physical, is_told: bool) -> Physical:
    """``found``, called with the token of the query's budget first: one that is used up ends the call. ``is_told``: the
    routine takes the token itself."""
    inner, arity = found.call, len(found.arguments)
    if is_told:

        def told(token: str, *arguments: Any) -> Any:
            budget = BUDGETS.get(token)
            return inner(token, *arguments) if budget is None else budget.run(inner, (token, *arguments))

        return replace(found, call=_fixed(told, arity))

    def call(token: str, *arguments: Any) -> Any:
        budget = BUDGETS.get(token)
        return inner(*arguments) if budget is None else budget.run(inner, arguments)

    return replace(found, arguments=("VARCHAR", *found.arguments), call=_fixed(call, 1 + arity))


def _scalar(ref: RoutineRef, python: Callable[..., Any], is_strict: bool, is_volatile: bool = False) -> Physical:
    decoders = [_DECODERS.get(kind) for kind in ref.takes]
    needs_decoding = any(decoders)
    strings = [kind == "string" for kind in ref.takes]
    (gives,) = ref.gives
    encode, nothing = _ENCODERS[gives], "" if gives == "string" else None

    def call(*arguments: Any) -> Any:
        if None in arguments:
            arguments = tuple("" if v is None and is_text else v for v, is_text in zip(arguments, strings, strict=True))
            if is_strict and None in arguments:
                return nothing
        if needs_decoding:
            arguments = tuple(v if d is None or v is None else d(v) for v, d in zip(arguments, decoders, strict=True))
            if is_strict and None in arguments:
                return nothing
        value = python(*arguments)
        return nothing if value is None else encode(value)

    return Physical(
        ref.sql_name, tuple(_IN[kind] for kind in ref.takes), _OUT[gives], _fixed(call, len(ref.takes)), is_volatile
    )


def _function(ref: RoutineRef) -> Physical:
    from watchfloor.kql.functions import FUNCTIONS

    function = FUNCTIONS[ref.name][ref.number]
    return _scalar(ref, function.python, function.nulls == "strict", function.is_volatile)


def _conversion(ref: RoutineRef) -> Physical:
    from watchfloor.kql.functions.convert import convert

    (source,), target = ref.takes, ref.name
    return _scalar(ref, lambda value: convert(value, source, target), is_strict=False)


def _aggregate(ref: RoutineRef) -> Physical:
    from watchfloor.kql.functions import AGGREGATES

    aggregate = AGGREGATES[ref.name][ref.number]
    takes, (gives,) = ref.takes, ref.gives

    def call(*columns: list[Any] | None) -> Any:
        if takes:
            rows = list(zip(*(_decoded(k, c) for k, c in zip(takes, columns, strict=True)), strict=True))
        else:
            rows = [()] * len(columns[0] or ())
        return _encoded(gives, aggregate.python(rows) if rows else aggregate.over_nothing)

    arguments = tuple(f"{_IN[kind]}[]" for kind in takes) or ("BIGINT[]",)
    return Physical(ref.sql_name, arguments, _OUT[gives], _fixed(call, len(arguments)))


def _session(ref: RoutineRef) -> Physical:
    (kind,) = ref.gives

    def call(values: list[Any] | None, restarts: list[bool] | None, whole: Any, between: Any) -> list[Any]:
        found: list[Any] = []
        first = last = None
        for value, is_restart in zip(values or (), restarts or (), strict=True):
            if value is None:
                first = None
                found.append(None)
                continue
            if first is None or is_restart or value - first > whole or value - last > between:
                first = value
            last = value
            found.append(_encoded(kind, first))
        return found

    step = _IN[ref.takes[1]]
    return Physical(ref.sql_name, (f"{_IN[kind]}[]", "BOOLEAN[]", step, step), f"{_OUT[kind]}[]", _fixed(call, 4))


def _relation(ref: RoutineRef) -> Physical:
    routine = registry()[ref.name]
    takes, gives, inputs = ref.takes, ref.gives, ref.inputs

    def call(token: str, spec: str, *columns: list[Any] | None) -> dict[str, list[Any]]:
        budget = BUDGETS.get(token) or Budget()
        try:
            kinds, handed = iter(takes), iter(columns)
            tables: list[list[list[Any]]] = []
            for width in inputs:
                cells = [_decoded(next(kinds), next(handed)) for _ in range(width)]
                tables.append(
                    [list(row) for row in zip(*cells, strict=True)] if width else [[] for _ in next(handed) or ()]
                )
            results: list[list[Any]] = [[] for _ in gives]
            for n, row in enumerate(routine(json.loads(spec), tables, budget)):
                if n % 1024 == 0:
                    budget.check()
                if n >= MAX_ROWS:
                    raise Refused(f"The operator {ref.name} gives more than {MAX_ROWS} rows.")
                for kind, result, value in zip(gives, results, row, strict=True):
                    result.append(_encoded(kind, value))
        except Exception as error:
            budget.error = error
            raise
        return {f"f{n}": result for n, result in enumerate(results)}

    lists, place = [], 0
    for width in inputs:
        lists += [f"{_IN[kind]}[]" for kind in takes[place : place + width]] or ["BIGINT[]"]
        place += width
    result = ", ".join(f"f{n} {_OUT[kind]}[]" for n, kind in enumerate(gives))
    return Physical(
        ref.sql_name, ("VARCHAR", "VARCHAR", *lists), f"STRUCT({result})", _fixed(call, 2 + len(lists)), True
    )


_MAKERS: Final[dict[str, Callable[[RoutineRef], Physical]]] = {
    "function": _function,
    "conversion": _conversion,
    "aggregate": _aggregate,
    "session": _session,
    "relation": _relation,
}

REGISTRY: Final[dict[str, Routine]] = {}
"""The relational routines by name. Complete once ``registry()`` was called."""


@cache
def registry() -> dict[str, Routine]:
    """``REGISTRY``, complete: the modules of this package put their routines there when they are imported."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return REGISTRY
