"""The trainer's own error."""

from __future__ import annotations

from router.errors import ThinkTwiceError


class TrainingError(ThinkTwiceError):
    """The run cannot go on; nothing was registered. The message is one line with the reason."""
