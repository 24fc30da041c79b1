"""Verification: check types, their admission, their isolated execution, and the composite verdict."""
