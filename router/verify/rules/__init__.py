"""The rules of the `constraints` check: a small declarative language for plans, and puzzles with known rules."""
