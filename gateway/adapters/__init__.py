"""Adapters: each implements one port of `router.ports` on a library, and turns its errors into `router.errors`."""
