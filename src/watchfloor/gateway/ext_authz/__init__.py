"""Envoy's external authorization: MCP traffic that another gateway carries, decided on here."""
