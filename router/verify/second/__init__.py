"""Second verifiers: one for each decisive check, of another construction. They audit, or decide where rotated in.

They share no parsing with the checks, so that a fault of one is not the fault of both. They are simpler, and say so
(outcome `error`) where they cannot judge.
"""
