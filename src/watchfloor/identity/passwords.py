"""Operators' passwords: argon2id, a few at a time.

Above argon2-cffi, below ``identity.operators``. One hash takes 19 MiB and tens of milliseconds, so a flood of sign-ins
must not run them side by side: more than ``concurrent`` wait in line, and who waits too long is told to come back. They
run in threads that give way to everything else on the host, tool calls first. It does not know whose password it is.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from watchfloor.model.errors import InputError, Unavailable

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
"""Longer ones are refused, not cut: hashing is meant to cost the server little."""
_NICENESS: Final = 10


class Passwords:
    """Hashes and checks. One for each process."""

    def __init__(self, *, concurrent: int = 2, wait_seconds: float = 5.0, memory_kib: int = 19 * 1024) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1, type=Type.ID)
        self._pool = threading.BoundedSemaphore(concurrent)
        self._threads = ThreadPoolExecutor(concurrent, "passwords", initializer=_give_way)
        self._wait_seconds = wait_seconds
        # Checked in place of an account that does not exist, so that it takes as long.
        self._nobody = self._hasher.hash("nobody's password")

    def hash(self, password: str, where: str = "password") -> str:
        """The hash of a new password. Raises ``InputError`` if it is too short or too long to be one."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise InputError(
                f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters, this one {len(password)}.",
                where=where,
                remedy="A few random words make a good one.",
            )
        self._enter()
        try:
            return self._threads.submit(self._hasher.hash, password).result()
        finally:
            self._pool.release()

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` belongs to ``stored``; with None it never does, and takes as long to say so."""
        if len(password) > MAX_LENGTH:
            password = ""  # no stored hash is of an empty password
        self._enter()
        try:
            verified = self._threads.submit(self._hasher.verify, stored or self._nobody, password)
            return verified.result() and stored is not None
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._pool.release()

    def _enter(self) -> None:
        if not self._pool.acquire(timeout=self._wait_seconds):
            raise Unavailable(
                "Too many people are signing in at this moment. Try again in a few seconds.", retry_after=5
            )


def _give_way() -> None:
    """Lower the priority of this thread, where threads have one of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
