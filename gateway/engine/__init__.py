"""The embedded engine: a second process that speaks vLLM's HTTP dialect over Hugging Face transformers.

The only package that may import torch. Read it in this order: `command` (start), `server` (HTTP), `protocol`
(requests), `scheduler` (the generation thread), `batch` (KV cache and forward passes), `row` (one sample),
`sampling` (probabilities), `render` (responses).
"""
