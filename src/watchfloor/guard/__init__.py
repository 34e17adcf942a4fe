"""May this happen? One pure function, ``engine.decide(invocation, context) -> Verdict``, behind every door.

Doors above translate what they hear into an ``Invocation``, gather ``Facts`` and hand both over; below is only the
model. This room knows no clock, no socket, no database and no file: everything that a decision depends on is passed in,
which is why any recorded decision can be taken again later (``engine.replay``).
"""
