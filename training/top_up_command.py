"""`thinktwice train --top-up`: what it reads, and what it prints."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

from router.settings import TrainingSection
from training.model import open_base_model
from training.place import Place, accepted
from training.progress import asking_bar
from training.top_up import Drawn, Ended, draw, wanted

_WHY = {
    Ended.DONE: "nothing else wants it",
    Ended.BUDGET: "the budget is spent, see [training] top_up_tokens",
    Ended.BUSY: "the gateway is busy: run it off-peak",
}


def top_up(place: Place, training: TrainingSection, as_json: bool) -> str:
    """Draw what is wanted and say what came of it. Raises as `wanted` and `draw`."""
    accepts = accepted(place, open_base_model(place.model), place.champion(), training)
    samples = training.top_up_samples
    prompts = wanted(place, accepts, samples, training.max_groups)
    with asking_bar(len(prompts)) as advance:
        drawn = asyncio.run(draw(training.gateway_url, prompts, samples, training.top_up_tokens, advance))
    return json.dumps(asdict(drawn)) if as_json else _as_text(drawn)


def _as_text(drawn: Drawn) -> str:
    errors = ", ".join(f"{number} x {name}" for name, number in drawn.errors.most_common())
    failed = f"; failed: {errors}, at most {drawn.lost} tokens" if errors else ""
    made = f"drawn again: {drawn.prompts} prompts, {drawn.samples} samples, {drawn.tokens} tokens"
    return f"{made}{failed}; {drawn.left} left: {_WHY[drawn.ended]}"
