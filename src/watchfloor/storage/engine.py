"""One hardened DuckDB: how a compiled query is run, with its routines and within its limits.

``run`` and ``Routines`` serve every DuckDB of the product, the event store's too. ``Engine`` is one in memory, without
files, for queries over rows that are handed in. Whatever a query says, the engine reads no file, loads no extension and
changes no setting; a query that takes too long, gives too much or needs too much memory is stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
from duckdb.func import SPECIAL

from watchfloor.kql import KqlError, Span, routines
from watchfloor.kql.regex import RegexError
from watchfloor.kql.sql.duckdb import is_distrusted, trusting
from watchfloor.model.errors import InputError, PastLimit, Unavailable, WatchfloorError
from watchfloor.storage.ports import CompiledQuery, Limits, Scope

if TYPE_CHECKING:
    from watchfloor.kql.routines import RoutineRef

HARDENING: Final = (
    "SET GLOBAL TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allowed_configs = ['enable_progress_bar', 'enable_progress_bar_print']",
)
"""Settings of every database, before its configuration is locked."""


_REFUSALS: Final = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.InvalidTypeException,
    duckdb.NotImplementedException,
    duckdb.OutOfRangeException,
    duckdb.ParserException,
    duckdb.TypeMismatchException,
    pa.ArrowException,
)
"""What the engine says about a query, not about itself."""

_log = logging.getLogger(__name__)


_AGAIN_SECONDS: Final = 0.05


class Routines:
    """The routines that one database can call: each is registered when a query first needs it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def ensure(self, wanted: Iterable[RoutineRef]) -> None:
        """Make ``wanted`` callable on every cursor of the database. Raises ``InputError`` for what is no routine."""
        for ref in wanted:
            if ref.sql_name in self._known:
                continue
            try:
                found = routines.physical(ref)
            except (LookupError, ValueError) as error:
                raise InputError(f"There is no routine {ref.name}.", where="routines") from error
            with self._lock:
                if found.sql_name in self._known:
                    continue
                self._connection.create_function(
                    found.sql_name,
                    found.call,
                    list(found.arguments),
                    found.result,
                    null_handling=SPECIAL,
                    side_effects=found.is_volatile,
                )
                self._known.add(found.sql_name)


def run(cursor: duckdb.DuckDBPyConnection, query: CompiledQuery, limits: Limits) -> list[pa.RecordBatch]:
    """The whole result of ``query``, its columns called by their names. Nobody else may use ``cursor`` meanwhile.

    Raises ``Unavailable`` past the limits, and the engine's own errors.
    """
    budget = routines.Budget(limits.timeout_seconds)
    watchdog = _Watchdog(cursor, limits.timeout_seconds, budget)
    params = dict(query.params)
    token = routines.open_budget(budget) if query.needs_budget else ""
    if token:
        params["budget"] = token
    try:
        with watchdog:
            if limits.ticket is not None:
                cursor.execute("SET enable_progress_bar_print = false")
                cursor.execute("SET enable_progress_bar = true")  # or else nobody can ask for it
                limits.ticket.attach(watchdog.bite, partial(_progress, cursor))
            first = trusting(query.sql)
            try:
                found, schema = _gathered(cursor, first, params, limits)
            except duckdb.InvalidInputException as error:
                if first == query.sql or not is_distrusted(error):
                    raise
                found, schema = _gathered(cursor, query.sql, params, limits)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if limits.ticket is not None and limits.ticket.is_cancelled:
            raise Unavailable("The query was given up.") from error
        if watchdog.has_bitten or isinstance(budget.error, routines.OutOfTime):
            raise PastLimit(f"The query ran longer than {limits.timeout_seconds:g} s.") from error
        if type(budget.error) in (ValueError, routines.Refused, RegexError):  # ours, in words
            message = f"The query cannot be answered: {budget.error}"
            raise InputError(message) from KqlError(message, Span(0, 0), kind="limit")
        if isinstance(error, duckdb.OutOfMemoryException):
            raise PastLimit("The query needs more memory than it may have.") from error
        if isinstance(error, _REFUSALS):  # what the engine says tells of SQL, which is nobody's business
            _log.error("the engine did not run a query: %s", type(budget.error or error).__name__)
            _log.debug("%s", error)
            raise InputError("The query cannot be answered: the engine gave up on it.") from error
        raise
    finally:
        routines.BUDGETS.pop(token, None)
        if limits.ticket is not None:
            limits.ticket.detach()
    names = [name for name, _ in query.columns] or schema.names
    if len(names) != len(schema.names):
        raise InputError(f"The query promised {len(names)} columns and gave {len(schema.names)}.", where="columns")
    # An empty result has a schema, too: there is always at least one batch.
    found = found or [pa.RecordBatch.from_pylist([], schema=schema)]
    return [batch.rename_columns(names) for batch in found]


def _gathered(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any], limits: Limits
) -> tuple[list[pa.RecordBatch], pa.Schema]:
    """All that ``sql`` gives. Raises ``PastLimit`` if that is too much."""
    found: list[pa.RecordBatch] = []
    rows = size = 0
    reader = cursor.sql(sql, params=dict(params)).to_arrow_reader(min(limits.max_rows + 1, 65_536))
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > limits.max_rows:
            raise PastLimit(f"The result has more than {limits.max_rows} rows; narrow the query.")
        if size > limits.max_bytes:
            raise PastLimit(f"The result is larger than {limits.max_bytes} bytes; narrow the query.")
        found.append(batch)
    return found, reader.schema


def _progress(cursor: duckdb.DuckDBPyConnection) -> float | None:
    """The share that is done; None where the engine does not know."""
    percent = float(cursor.query_progress())
    return percent / 100 if percent >= 0 else None


class _Watchdog:
    """Interrupts a query that runs too long, and never the one after it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, seconds: float, budget: routines.Budget) -> None:
        self._cursor, self._lock, self._is_over, self._budget = cursor, threading.Lock(), False, budget
        self.has_bitten = False
        self._timer = threading.Timer(seconds, self.bite)
        self._timer.daemon = True

    def bite(self) -> None:
        """Stop the query, unless it is over."""
        with self._lock:
            if self._is_over:
                return
            self.has_bitten = True
            self._budget.cancel()
            self._cursor.interrupt()
            # The engine forgets an interrupt that comes just before a query begins: bite until it is over.
            self._timer.cancel()
            self._timer = threading.Timer(_AGAIN_SECONDS, self.bite)
            self._timer.daemon = True
            self._timer.start()

    def __enter__(self) -> None:
        with self._lock:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
        self._timer.cancel()


@contextmanager
def translated(what: str, damaged: Callable[[str], WatchfloorError] = InputError) -> Iterator[None]:
    """The engine's errors as ours; ``what`` names the database. ``damaged`` makes the error for one that is broken."""
    try:
        yield
    except WatchfloorError:
        raise
    except (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException) as error:
        raise damaged(f"{what} is damaged: {first_line(error)}") from error
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.ConnectionException) as error:
        raise Unavailable(f"{what} cannot do this now: {first_line(error)}") from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise InputError(f"{what} refuses this: {first_line(error)}") from error
    except OSError as error:
        raise Unavailable(f"{what} cannot do this now: {error}") from error


def first_line(error: Exception) -> str:
    """What ``error`` says, without the rest of the query."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class Engine:
    """A DuckDB in memory over ``tables`` (Arrow, by name). Any thread may use it.

    ``memory_limit`` is DuckDB's; nothing is ever written to disk.
    """

    dialect = "duckdb"

    def __init__(
        self, tables: Mapping[str, pa.Table] | None = None, *, memory_limit: str = "1GiB", threads: int | None = None
    ) -> None:
        connection = duckdb.connect(":memory:")
        connection.execute("LOAD icu; LOAD json")
        for setting in HARDENING:
            connection.execute(setting)
        connection.execute(f"SET memory_limit = '{memory_limit}'")
        connection.execute("SET temp_directory = ''")
        if threads is not None:
            connection.execute(f"SET threads = {int(threads)}")
        for name, table in (tables or {}).items():
            if len({column.casefold() for column in table.column_names}) < table.num_columns:
                raise InputError("Two columns differ in nothing but case.", where=name)
            connection.register("incoming", table)
            quoted = name.replace('"', '""')
            connection.execute(f'CREATE TABLE "{quoted}" AS FROM incoming')
            connection.unregister("incoming")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        self._connection = connection
        self._routines = Routines(connection)
        self._opening = threading.Lock()

    def query(self, query: CompiledQuery, scope: Scope, limits: Limits) -> Iterator[pa.RecordBatch]:
        """See ``EventStore.query``. ``scope`` was applied when the query was compiled."""
        if query.dialect != self.dialect:
            raise InputError(f"This store speaks {self.dialect}, the query {query.dialect}.")
        with translated("The query engine"), self._cursor() as cursor:
            self._routines.ensure(query.routines)
            return iter(run(cursor, query, limits))

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """The result of plain SQL, for comparisons."""
        with translated("The query engine"), self._cursor() as cursor:
            return cursor.sql(sql, params=dict(params or {})).to_arrow_table()

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._opening:
            cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()
