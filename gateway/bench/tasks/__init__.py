"""Generated tasks: seeded problems whose answers a check of the project can tell right from wrong."""
