"""What runs inside a sandbox. Its modules travel as source over stdin, so they import the standard library only."""
