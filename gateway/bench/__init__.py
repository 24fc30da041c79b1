"""Benchmarks that drive a running gateway: what `thinktwice bench` runs."""
