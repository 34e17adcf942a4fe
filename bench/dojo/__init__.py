"""AgentDojo's tasks replayed against guards, in an environment of its own: ``make dojo``, docs/provenance.md."""
