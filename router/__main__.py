"""`python -m router` is the command `thinktwice`, for where the script is not on PATH."""

from router.cli import main

raise SystemExit(main())
