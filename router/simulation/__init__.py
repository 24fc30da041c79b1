"""Replaying recorded groups under other policies: what each would have solved, and for how much."""
