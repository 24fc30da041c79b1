"""`thinktwice doctor`: looks at everything a gateway stands on, and says the cure for what would not hold."""
