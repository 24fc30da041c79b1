"""What makes a policy out of the log: the objective, and the settings that shape it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from router.settings import TrainingSection

OBJECTIVE = "offline_clip"


def recipe(training: TrainingSection) -> dict[str, Any]:
    """The settings as JSON values, all but the model's folder, which differs between machines."""
    return training.model_dump(mode="json", exclude={"model"})


def recipe_sha256(training: TrainingSection) -> str:
    """Digest of the recipe: equal for runs that would make the same policy of the same data."""
    return hashlib.sha256(json.dumps(recipe(training), sort_keys=True).encode()).hexdigest()
