"""The served names: the base model and the LoRA adapters loaded at runtime."""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

from gateway.engine.errors import ApiError
from gateway.engine.model import Adapter, LanguageModel
from gateway.engine.scheduler import Refused, Scheduler


class ModelRegistry:
    """Maps a request's `model` to weights. Used from the event loop only."""

    def __init__(self, model: LanguageModel, served_name: str, scheduler: Scheduler) -> None:
        self.served_name = served_name
        self._model = model
        self._scheduler = scheduler
        self._adapters: dict[str, Adapter] = {}
        self._loading: set[str] = set()
        self._numbers = count(1)
        self._created = int(time.time())

    def slot(self, name: str | None) -> tuple[str, str | None]:
        """Return the served name and the adapter slot of a request's `model`. Raises ApiError (404)."""
        if name is None or name == self.served_name:
            return self.served_name, None
        adapter = self._adapters.get(name)
        if adapter is None:
            raise ApiError(f"The model `{name}` does not exist.", "model", HTTPStatus.NOT_FOUND)
        return name, adapter.slot

    def cards(self) -> dict[str, Any]:
        """Return the body of GET /v1/models."""
        base = self._card(self.served_name, self._model.path, None)
        base["max_model_len"] = self._model.max_model_len
        adapters = [self._card(a.name, a.path, self.served_name) for a in self._adapters.values()]
        return {"object": "list", "data": [base, *adapters]}

    async def load(self, name: str, path: str) -> None:
        """Load an adapter under a new name. Raises ApiError (400, or 404 for a folder that is not there)."""
        if not name or not path:
            raise ApiError("Both 'lora_name' and 'lora_path' must be provided.", "lora_path" if name else "lora_name")
        if name == self.served_name:
            raise ApiError(f"The lora adapter '{name}' conflicts with the served base model.", "lora_name")
        if name in self._adapters or name in self._loading:
            raise ApiError(f"The lora adapter '{name}' has already been loaded.", "lora_name")
        check_folder(Path(path))
        adapter = Adapter(name, path, slot=f"lora{next(self._numbers)}")
        self._loading.add(name)
        try:
            await asyncio.wrap_future(self._scheduler.call(lambda: self._model.load_adapter(adapter)))
        except Refused as error:
            raise ApiError(str(error), status=HTTPStatus.SERVICE_UNAVAILABLE) from error
        finally:
            self._loading.discard(name)
        self._adapters[name] = adapter

    def unload(self, name: str) -> None:
        """Stop serving an adapter; samples that run on it finish first. Raises ApiError (404)."""
        adapter = self._adapters.pop(name, None)
        if adapter is None:
            raise ApiError(f"The lora adapter '{name}' cannot be found.", "lora_name", HTTPStatus.NOT_FOUND)
        self._scheduler.retire(adapter.slot, lambda: self._model.unload_adapter(adapter))

    def _card(self, name: str, root: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "thinktwice",
            "root": root,
            "parent": parent,
            "max_model_len": None,
            "permission": [],
        }


def check_folder(path: Path) -> None:
    """Check that a folder looks like a LoRA adapter. Raises ApiError (404 when there is none, else 400)."""
    config_file = path / "adapter_config.json"
    if not config_file.is_file():
        message = f"No adapter found at '{path}': adapter_config.json is missing"
        raise ApiError(message, "lora_path", HTTPStatus.NOT_FOUND)
    try:
        config = json.loads(config_file.read_bytes())
    except ValueError as error:
        raise ApiError(f"'{config_file}' is not JSON", "lora_path") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ApiError(f"'{config_file}' does not describe a LoRA adapter", "lora_path")
