"""Isolation: runs code that nobody trusts apart from everything, each run in a process of its own used once."""
