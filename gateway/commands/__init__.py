"""The gateway's subcommands of `thinktwice`, one module each."""
