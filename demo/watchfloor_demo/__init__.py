"""Zava: a pretend company with real parts.

Tool servers, a mail server, an OpenID provider and twenty scripted agents, with the people who talk to them, the
background traffic of a working day, and the story of an attack. Everything here speaks to the product through its
public doors only (MCP, the token service, the API): nothing of the product is imported, and the product knows nothing
of Zava.
"""
