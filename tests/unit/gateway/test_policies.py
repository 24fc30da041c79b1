import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.policies import PolicyDirectory
from router.errors import BackendUnavailable, ModelNotFound, RegistryError
from router.registry import PolicyRegistry
from tests.support.fakes import ENGINE, Line, ScriptedBackend


def registered(registry: PolicyRegistry, folder: Path, weights: str = "weights") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "adapter.safetensors").write_text(weights)
    return registry.register(folder, {})


def engine(refuses: BackendUnavailable | None = None) -> ScriptedBackend:
    return ScriptedBackend([Line("4")], refuses_policies=refuses)


REFUSAL = BackendUnavailable("the engine cannot load it: its rank is too high")


def test_before_any_engine_has_answered_no_model_is_known(tmp_path: Path) -> None:
    directory = PolicyDirectory(PolicyRegistry(tmp_path), engine(), None)
    for ask in (lambda: directory.base_model, lambda: directory.resolve("champion"), directory.names):
        with pytest.raises(BackendUnavailable):
            ask()


def test_the_base_model_is_the_configured_one_else_the_first_served(tmp_path: Path) -> None:
    configured = PolicyDirectory(PolicyRegistry(tmp_path), engine(), "mine")
    configured.engine_changed(ENGINE)
    assert configured.base_model == "mine"
    found = PolicyDirectory(PolicyRegistry(tmp_path), engine(), None)
    found.engine_changed(replace(ENGINE, models=()))
    with pytest.raises(BackendUnavailable):
        found.resolve("base")
    found.engine_changed(replace(ENGINE, models=("first", "second")))
    found.engine_changed(replace(ENGINE, models=("other",)))  # requests in flight keep meaning the same model
    assert found.base_model == "first"


async def test_a_promotion_is_followed_once_the_engine_has_the_policy(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine()
    directory = PolicyDirectory(registry, backend, "base")
    assert directory.names() == ("base", "champion") and directory.champion == "base"
    name = registered(registry, tmp_path / "adapter")
    with pytest.raises(ModelNotFound):
        directory.resolve(name)
    registry.promote(name, "better", "test")
    await directory.follow()
    assert backend.loaded == {name: tmp_path / "state" / "policies" / name}
    assert directory.names() == ("base", "champion", name) and directory.champion == name
    assert (directory.resolve("champion").name, directory.resolve("champion").epoch) == (name, 1)
    assert directory.resolve(name).base_model == "base"
    registry.rollback("worse", "test")
    await directory.follow()
    assert (directory.resolve("champion").name, directory.resolve("champion").epoch) == ("base", 2)


async def test_a_policy_the_engine_refuses_does_not_serve(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine(REFUSAL)
    directory = PolicyDirectory(registry, backend, "base")
    name = registered(registry, tmp_path / "adapter")
    registry.promote(name, "better", "test")
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="rank is too high"):
            await directory.follow()
        assert (directory.resolve("champion").name, directory.resolve("champion").epoch) == ("base", 0)
    with pytest.raises(BackendUnavailable):  # pinned
        await directory.ready(name)
    backend.refuses_policies = None
    await directory.follow()
    assert directory.champion == name


async def test_a_canary_serves_its_share_of_the_champions_requests(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine()
    directory = PolicyDirectory(registry, backend, "base")
    name = registered(registry, tmp_path / "adapter")
    registry.try_out(name, 0.25, "perhaps", "test")
    await directory.follow()
    assert list(backend.loaded) == [name] and (directory.champion, directory.epoch) == ("base", 1)
    served = [directory.resolve("champion", lambda place=place: place / 100) for place in range(100)]
    assert [policy.name for policy in served] == [name] * 25 + ["base"] * 75
    assert all(policy.shared and policy.epoch == 0 for policy in served)
    for pinned in (directory.resolve("champion"), directory.resolve(name, lambda: 0.9)):
        assert not pinned.shared
    assert directory.resolve("champion").name == "base"
    registry.rollback("worse", "test")
    await directory.follow()
    assert directory.resolve("base", lambda: 0.0).name == "base" and directory.canary is None


async def test_a_canary_the_engine_refuses_does_not_serve_and_keeps_no_champion_back(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine()
    directory = PolicyDirectory(registry, backend, "base")
    first = registered(registry, tmp_path / "adapter")
    registry.promote(first, "better", "test")
    await directory.follow()
    backend.refuses_policies = REFUSAL
    registry.try_out(registered(registry, tmp_path / "other", "others"), 0.25, "perhaps", "test")
    with pytest.raises(BackendUnavailable, match="rank is too high"):
        await directory.follow()
    assert directory.resolve("champion", lambda: 0.0).name == directory.champion == first


async def test_a_pinned_policy_is_loaded_once_when_it_is_first_asked_for(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine()
    directory = PolicyDirectory(registry, backend, "base")
    assert (await directory.ready("champion")).name == "base" and not backend.loaded
    name = registered(registry, tmp_path / "adapter")  # after the directory was read
    found = await asyncio.gather(*(directory.ready(name) for _ in range(5)))
    assert {policy.name for policy in found} == {name} and list(backend.loaded) == [name]
    assert directory.champion == "base"
    backend.loaded.clear()
    await directory.ready(name)
    assert not backend.loaded
    directory.engine_lost()
    await directory.ready(name)
    assert list(backend.loaded) == [name]


async def test_the_champion_is_loaded_again_by_an_engine_that_came_back(tmp_path: Path) -> None:
    registry, backend = PolicyRegistry(tmp_path / "state"), engine()
    registry.promote(registered(registry, tmp_path / "adapter"), "better", "test")
    directory = PolicyDirectory(registry, backend, "base")
    directory.engine_changed(ENGINE)
    await directory.follow()
    await directory.follow()
    assert list(backend.loaded) == [directory.champion]
    backend.loaded.clear()
    directory.engine_lost()
    directory.engine_changed(ENGINE)
    assert (await directory.ready("champion")).name == directory.champion
    assert list(backend.loaded) == [directory.champion]


async def test_a_damaged_registry_leaves_the_last_champion(tmp_path: Path) -> None:
    registry = PolicyRegistry(tmp_path / "state")
    name = registered(registry, tmp_path / "adapter")
    registry.promote(name, "better", "test")
    directory = PolicyDirectory(registry, engine(), "base")
    (tmp_path / "state" / "champion").write_text("garbage")
    with pytest.raises(RegistryError):
        await directory.follow()
    assert directory.champion == name


@pytest.mark.parametrize("name", ["", "gpt-9", "Champion", "policy-1-00000000"])
async def test_a_name_nobody_knows(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        await PolicyDirectory(PolicyRegistry(tmp_path), engine(), "base").ready(name)
    assert refused.value.param == "model"
