"""From bytes to a chat call and back: routes, parsing, rendering, streams, errors."""
