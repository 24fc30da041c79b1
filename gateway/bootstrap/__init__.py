"""The composition root: settings to a running gateway. Nothing else constructs an adapter."""
