"""``dataclass`` for what the stages hand to one another: frozen for the type checker, plain for the interpreter.

A frozen dataclass sets each field through ``object.__setattr__``, which makes it three times as dear to create, and a
translation creates thousands. Nobody changes a record all the same: the type checker refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool, slots: bool) -> object:
        """``dataclasses.dataclass(frozen=True, slots=True)``, which may be hashed and is not frozen."""
        return dataclasses.dataclass(slots=slots, unsafe_hash=frozen)
