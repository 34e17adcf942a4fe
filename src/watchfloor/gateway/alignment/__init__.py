"""The sentence encoder and what asks it: whether a call follows from what the user asked (optional extra)."""
