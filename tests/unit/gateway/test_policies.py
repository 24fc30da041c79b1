from dataclasses import replace
from pathlib import Path

import pytest

from gateway.policies import PolicyDirectory
from router.errors import BackendUnavailable, ModelNotFound, RegistryError
from router.registry import PolicyRegistry
from tests.support.fakes import ENGINE


def registered(registry: PolicyRegistry, folder: Path) -> str:
    folder.mkdir()
    (folder / "adapter.safetensors").write_text("weights")
    return registry.register(folder, {})


def test_before_any_engine_has_answered_no_model_is_known(tmp_path: Path) -> None:
    directory = PolicyDirectory(PolicyRegistry(tmp_path), None)
    for ask in (lambda: directory.base_model, lambda: directory.resolve("champion"), directory.names):
        with pytest.raises(BackendUnavailable):
            ask()


def test_the_base_model_is_the_configured_one_else_the_first_served(tmp_path: Path) -> None:
    configured = PolicyDirectory(PolicyRegistry(tmp_path), "mine")
    configured.engine_changed(ENGINE)
    assert configured.base_model == "mine"
    found = PolicyDirectory(PolicyRegistry(tmp_path), None)
    found.engine_changed(replace(ENGINE, models=()))
    with pytest.raises(BackendUnavailable):
        found.resolve("base")
    found.engine_changed(replace(ENGINE, models=("first", "second")))
    found.engine_changed(replace(ENGINE, models=("other",)))  # requests in flight keep meaning the same model
    assert found.base_model == "first"


def test_a_promotion_is_seen_after_a_refresh_and_raises_the_epoch(tmp_path: Path) -> None:
    registry = PolicyRegistry(tmp_path / "state")
    directory = PolicyDirectory(registry, "base")
    assert directory.names() == ("base", "champion") and directory.champion == "base"
    name = registered(registry, tmp_path / "adapter")
    with pytest.raises(ModelNotFound):
        directory.resolve(name)
    registry.promote(name, "better", "test")
    directory.refresh()
    assert directory.names() == ("base", "champion", name) and directory.champion == name
    assert (directory.resolve("champion").name, directory.resolve("champion").epoch) == (name, 1)
    assert directory.resolve(name).base_model == "base"


def test_a_damaged_registry_leaves_the_last_champion(tmp_path: Path) -> None:
    registry = PolicyRegistry(tmp_path / "state")
    name = registered(registry, tmp_path / "adapter")
    registry.promote(name, "better", "test")
    directory = PolicyDirectory(registry, "base")
    (tmp_path / "state" / "champion").write_text("garbage")
    with pytest.raises(RegistryError):
        directory.refresh()
    assert directory.champion == name


@pytest.mark.parametrize("name", ["", "gpt-9", "Champion", "policy-1-00000000"])
def test_a_name_nobody_knows(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        PolicyDirectory(PolicyRegistry(tmp_path), "base").resolve(name)
    assert refused.value.param == "model"
