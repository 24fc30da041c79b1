"""What makes a policy out of the log: the objective, and the settings that shape it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from router.settings import Mode, TrainingSection

_ELSEWHERE = {
    "model",
    "due_groups",
    "eval_data",
    "eval_max_tokens",
    "score_hours",
    "gateway_url",
    "alpha",
    "canary_shares",
    "canary_answers",
    "top_up_samples",
    "top_up_tokens",
    "usd_per_hour",
}


def objective(training: TrainingSection) -> str:
    """The name of the loss."""
    return training.mode.value if training.mode is Mode.RFT else training.objective.value


def recipe(training: TrainingSection) -> dict[str, Any]:
    """The settings as JSON values, without the model's folder (machines differ) and what comes before and after."""
    return training.model_dump(mode="json", exclude=_ELSEWHERE)


def recipe_sha256(training: TrainingSection) -> str:
    """Digest of the recipe: equal for runs that would make the same policy of the same data."""
    return hashlib.sha256(json.dumps(recipe(training), sort_keys=True).encode()).hexdigest()
