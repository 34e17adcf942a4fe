"""The portal's house and its address, for commands that ask a server."""

from portal.conftest import address, attacked  # noqa: F401  fixtures
