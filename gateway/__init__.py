"""The OpenAI-compatible service in front of vLLM, and the commands that run it."""
