"""Learned difficulty: what single samples of a policy solve, fitted from logged groups or a recorded bank."""
