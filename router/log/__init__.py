"""The group log on disk: framed segments, their writer and readers, forgetting, audit and statistics."""
