"""Sections of the guardrails: what may not be asked, and what may not be answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from router.settings.section import Section


class PolicyListSection(Section):
    """One list of what a text must not hold; requests and profiles name it in a `policy` check."""

    words: tuple[str, ...] = Field((), max_length=2000, description="Words and phrases, whatever their case.")
    patterns: tuple[str, ...] = Field((), max_length=200, description="RE2 patterns, whatever the case.")
    classifier: bool = Field(False, description="Ask the classifier of `[policy]` as well.")
    applies_to: Literal["input", "output", "both"] = Field("both", description="What is read: requests, answers.")
    always: bool = Field(False, description="Apply it to every request, named or not.")


class PolicySection(Section):
    """The operator's lists, and a classifier that speaks OpenAI's `/v1/moderations`."""

    lists: dict[str, PolicyListSection] = Field({}, description="Lists by name: `[policy.lists.NAME]`.")
    classifier_url: str | None = Field(None, description="Whole URL of the moderations route.")
    classifier_model: str | None = Field(None, description="`model` to ask it for.")
    classifier_api_key: str | None = Field(None, description="Bearer token for it.")
    classifier_timeout_s: float = Field(2.0, gt=0, le=10, description="Longest wait for it, in seconds.")
