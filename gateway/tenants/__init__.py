"""Who may call, how much, and in what order."""
