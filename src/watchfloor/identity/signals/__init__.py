"""Shared signals: security events that others tell us of their users, and those that we tell others.

``events`` has the words, ``tokens`` the signatures, ``receive`` what a telling does here, ``poll`` fetches it;
``outbox`` and ``streams`` are the other direction, ``deliver`` sends. Shared Signals Framework 1.0, CAEP 1.0, RFC 8417.
"""
