"""The most that a request can cost, which is what its tenant's budget holds back."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.tenants.metering import draw_bound
from router.domain import Prompt, Sampling, Tokens
from tests.support.fakes import ENGINE

TEXT = {"type": "text", "text": "what is this?"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}


@pytest.mark.parametrize(("content", "whole"), [("what?", False), ([TEXT], False), ([TEXT, IMAGE], True)])
def test_a_part_that_is_no_text_may_fill_the_context(content: Any, whole: bool) -> None:
    prompt = Prompt(({"role": "user", "content": content},), {}, Sampling(max_tokens=8))
    bound = draw_bound(prompt, ENGINE, grows=False)
    assert (bound.prompt == ENGINE.max_model_len) == whole and bound == Tokens(bound.prompt, 8)
