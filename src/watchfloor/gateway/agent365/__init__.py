"""Agent 365's tooling gateway, as its SDK asks for it: which tool servers an agent has, and what the user said."""
