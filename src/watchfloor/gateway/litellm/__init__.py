"""LiteLLM's generic guardrail API: what goes to a model and what comes back, judged for a proxy of other makers."""
