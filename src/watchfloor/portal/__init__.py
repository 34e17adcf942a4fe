"""The door for people: the API, and a first window on it.

Above every room that knows something; nothing is above it but ``app``. Here requests become calls and values become
JSON or pages; what may be done is asked of ``identity`` and enforced again where the data is (``storage.cases``). It
holds no state of its own.

INVARIANT: every route declares exactly one permission, or says that it is public; a test walks the table of routes.
"""
