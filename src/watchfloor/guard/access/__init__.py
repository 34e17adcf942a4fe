"""Conditional access, pure: what a policy says, whom it fits, and what all of them together demand.

``policy`` reads and checks, ``evaluate`` answers, ``table`` remembers answers, ``lockout`` warns, ``graph`` speaks
Entra's shape. No I/O and no clock: who asks brings facts and the age of the sign-in.
"""
