"""What is counted: metrics and the scorecard."""
