"""Verified answers kept and found again, each computed once."""
