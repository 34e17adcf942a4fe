"""Agent frameworks, one module each; importing one needs its framework. No tool runs without the guard's yes."""
