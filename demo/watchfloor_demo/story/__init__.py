"""The story, played over the real doors: what happens, what is refused, what is seen, what is done about it.

``product`` runs Watchfloor, ``stage`` is what the steps share; the steps are in ``opening``, ``assault``, ``seeing``,
``holding`` and ``response``; ``play`` runs them in order, ``show`` tells what happens. Nothing here decides what the
outcome is: every fact is read from a door of the product or counted at the far end.
"""
