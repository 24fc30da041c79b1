"""Offline GRPO on logged groups; reaches models only over the gateway's HTTP."""
