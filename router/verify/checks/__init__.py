"""The check types, one module each."""
