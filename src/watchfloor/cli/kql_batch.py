"""``watchfloor kql batch``: queries as JSON lines in, answers as JSON lines out, whatever one of them does.

The queries bring their own data (``datatable``, ``print``, ``range``); no installation is needed. A worker process
runs one at a time; the batch itself only hands lines over and watches the clock. A query that outstays its time, or
takes its worker down with it, costs that query an error, never the batch.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

_GRACE_SECONDS: Final = 5.0
"""A worker stops a query by itself; only one that does not is killed, so long after."""


def batch(lines: Iterable[str | bytes], *, timeout: float, max_rows: int) -> Iterator[dict[str, Any]]:
    """One answer for each line that is not blank, in order."""
    with _Worker(timeout, max_rows) as worker:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                sent = json.loads(line)
                key, text = sent["id"], sent["kql"]
                if not isinstance(text, str):
                    raise TypeError("kql is not text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                message = f'line {number} is not {{"id", "kql"}}: {error}'
                yield {"id": None, "error": problem("syntax", message)}
                continue
            answer = worker.ask(text)
            yield {"id": key, **answer}


def problem(kind: str, message: str, line: int = 1, column: int = 1) -> dict[str, Any]:
    """An error as it stands in an answer."""
    return {"kind": kind, "message": message, "line": line, "column": column}


class _Worker:
    """The process that runs queries, started anew whenever it is gone."""

    def __init__(self, timeout: float, max_rows: int) -> None:
        self._timeout, self._max_rows = timeout, max_rows
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._stop(self._process)

    def ask(self, text: str) -> dict[str, Any]:
        """The answer to one query."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=self._timeout + _GRACE_SECONDS)
        except queue.Empty:
            self._stop(process)
            return {"error": problem("limit", f"The query ran longer than {self._timeout:g} s.")}
        except OSError:
            answer = None
        if answer is None:
            status = process.wait()
            self._stop(process)
            return {"error": problem("limit", f"The query's process ended ({status}); it may have run out of memory.")}
        found: dict[str, Any] = json.loads(answer)
        return found

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "watchfloor.cli.kql_worker", str(self._timeout), str(self._max_rows)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
            self._answers = queue.Queue()
            assert self._process.stdout is not None
            threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
            self._answers.get(timeout=120)  # it says when it is ready: starting is not the query's time
        return self._process

    def _stop(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self._process = None


def _read(stream: IO[str], answers: queue.Queue[str | None]) -> None:
    for line in stream:
        answers.put(line)
    answers.put(None)
