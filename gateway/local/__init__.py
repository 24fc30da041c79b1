"""Everything on one machine: the processes that `thinktwice up` runs, and the demonstration it drives."""
