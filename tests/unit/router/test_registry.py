"""The policy registry: the champion file is the truth, whatever a crash or a careless hand leaves beside it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from router.errors import PolicyConflict, PolicyNotFound, RegistryError
from router.policy_history import Action
from router.registry import Canary, Champion, PolicyRegistry
from tests.support.crash import crash_at_every_step


@pytest.fixture
def registry(tmp_path: Path) -> PolicyRegistry:
    return PolicyRegistry(tmp_path / "state")


def adapter(directory: Path, content: str = "weights") -> Path:
    folder = directory / f"adapter-{content}"
    (folder / "nested").mkdir(parents=True, exist_ok=True)
    (folder / "adapter.safetensors").write_text(content)
    (folder / "nested" / "config.json").write_text("{}")
    return folder


def trained(registry: PolicyRegistry, tmp_path: Path, *contents: str) -> list[str]:
    return [registry.register(adapter(tmp_path, content), {"run": content}) for content in contents]


def test_an_empty_registry_serves_the_base_model_and_reading_creates_nothing(tmp_path: Path) -> None:
    registry = PolicyRegistry(tmp_path / "state")
    assert registry.champion() == Champion(None, 0)
    assert registry.policies() == () and registry.history() == ()
    assert not (tmp_path / "state").exists()


def test_a_policy_is_named_by_its_content_and_kept_read_only(registry: PolicyRegistry, tmp_path: Path) -> None:
    [name] = trained(registry, tmp_path, "a")
    policy = registry.get(name)
    assert name == f"policy-1-{policy.manifest['sha256'][:8]}" and policy.manifest["run"] == "a"
    assert (policy.path / "nested" / "config.json").read_text() == "{}"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in policy.path.rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert registry.champion() == Champion(None, 0)


def test_numbers_count_up_and_the_same_content_keeps_its_name(registry: PolicyRegistry, tmp_path: Path) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    assert registry.register(adapter(tmp_path, "a"), {"run": "again"}) == first
    assert second.startswith("policy-2-")
    assert [policy.name for policy in registry.policies()] == [first, second]
    assert [entry.action for entry in registry.history()] == [Action.REGISTER] * 2


def test_a_number_is_not_used_again_when_its_folder_was_deleted(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    shutil.rmtree(registry.get(first).path)
    [second] = trained(registry, tmp_path, "b")
    assert second.startswith("policy-2-")


def test_every_flip_raises_the_epoch_and_is_in_the_history(registry: PolicyRegistry, tmp_path: Path) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    assert registry.promote(first, "better", "ci") == Champion(first, 1)
    assert registry.promote(second, "better still", "ci") == Champion(second, 2)
    assert registry.rollback("harm", "guard") == Champion(first, 3)
    assert registry.champion() == Champion(first, 3)
    flips = [entry for entry in registry.history() if entry.action is not Action.REGISTER]
    assert [(e.action, e.policy, e.previous, e.epoch, e.actor, e.reason) for e in flips] == [
        ("promote", first, None, 1, "ci", "better"),
        ("promote", second, first, 2, "ci", "better still"),
        ("rollback", first, second, 3, "guard", "harm"),
    ]
    state = tmp_path / "state"
    assert json.loads((state / "champion").read_text()) == {"policy": first, "epoch": 3}


def test_a_second_rollback_goes_one_further_back_and_then_there_is_none(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    registry.promote(first, "", "")
    registry.promote(second, "", "")
    assert [registry.rollback("", "").policy, registry.rollback("", "").policy] == [first, None]
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        registry.rollback("", "")


def test_a_canary_changes_no_champion_and_is_in_the_history(registry: PolicyRegistry, tmp_path: Path) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    registry.promote(first, "", "")
    assert (
        registry.try_out(second, 0.05, "better", "ci", 1)
        == registry.champion()
        == Champion(first, 2, Canary(second, 0.05), 1)
    )
    assert registry.try_out(second, 0.25, "no harm", "ci") == Champion(first, 3, Canary(second, 0.25), 2)
    assert registry.champion().cache_epoch == 1
    assert registry.rollback("harm", "gateway") == registry.champion() == Champion(first, 4, None, 3)
    assert registry.champion().cache_epoch == 1
    assert registry.rollback("", "") == Champion(None, 5)
    changes = [entry for entry in registry.history() if entry.action is not Action.REGISTER]
    assert [(e.action, e.policy, e.previous, e.epoch, e.share) for e in changes] == [
        ("promote", first, None, 1, None),
        ("canary", second, first, 2, 0.05),
        ("canary", second, first, 3, 0.25),
        ("withdraw", first, second, 4, None),
        ("rollback", None, first, 5, None),
    ]


def test_a_canary_that_is_promoted_or_another_promotion_ends_the_trial(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    registry.try_out(first, 0.05, "", "")
    assert registry.promote(second, "", "") == Champion(second, 2)
    registry.try_out(first, 0.05, "", "")
    assert registry.promote(first, "", "") == Champion(first, 4)
    assert registry.champion().cache_epoch == 4


def test_what_cannot_be_a_canary(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    for share in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            registry.try_out(first, share, "", "")
    with pytest.raises(PolicyNotFound):
        registry.try_out("policy-9-00000000", 0.05, "", "")
    with pytest.raises(PolicyConflict, match="of epoch 0 by now"):
        registry.try_out(first, 0.05, "", "", 3)
    registry.promote(first, "", "")
    with pytest.raises(PolicyConflict, match="is the champion"):
        registry.try_out(first, 0.05, "", "")
    assert registry.champion() == Champion(first, 1)


def test_a_canary_whose_folder_is_gone_is_an_error_with_the_cure(registry: PolicyRegistry, tmp_path: Path) -> None:
    first, second = trained(registry, tmp_path, "a", "b")
    registry.promote(first, "", "")
    registry.try_out(second, 0.05, "", "")
    shutil.rmtree(registry.get(second).path)
    with pytest.raises(RegistryError, match=f"names '{second}', which is not registered") as caught:
        registry.champion()
    (tmp_path / "state" / "champion").write_text(str(caught.value).split("write the line ")[1].split(" into it")[0])
    assert registry.champion() == Champion(first, 3)


def test_the_base_model_can_be_promoted_and_rolled_back_from(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    registry.promote(first, "", "")
    assert registry.promote(None, "start over", "") == Champion(None, 2)
    assert registry.rollback("", "") == Champion(first, 3)


def test_promoting_the_champion_changes_nothing(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    assert registry.promote(first, "", "") == registry.promote(first, "", "") == Champion(first, 1)
    assert len(registry.history()) == 2


@pytest.mark.parametrize("name", ["policy-9-00000000", "../../etc", "policy-1-abc", "", "policy-0-00000000"])
def test_what_is_not_registered_cannot_be_promoted(registry: PolicyRegistry, name: str) -> None:
    with pytest.raises(RegistryError, match="not registered"):
        registry.promote(name, "", "")
    assert registry.champion() == Champion(None, 0)


def test_a_policy_whose_files_changed_cannot_be_promoted(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    weights = registry.get(first).path / "adapter.safetensors"
    weights.chmod(0o644)
    weights.write_text("A")
    with pytest.raises(RegistryError, match="not those registered"):
        registry.promote(first, "", "")


def test_a_folder_that_is_no_adapter_is_refused(registry: PolicyRegistry, tmp_path: Path) -> None:
    empty, linked = tmp_path / "empty", adapter(tmp_path)
    empty.mkdir()
    with pytest.raises(RegistryError, match="holds no files"):
        registry.register(empty, {})
    (linked / "link").symlink_to("/etc/hostname")
    with pytest.raises(RegistryError, match="not a plain file"):
        registry.register(linked, {})
    assert registry.policies() == ()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"policy": 3, "epoch": 1}', b'{"policy": null}'])
def test_a_damaged_champion_is_an_error_with_the_cure(registry: PolicyRegistry, tmp_path: Path, content: bytes) -> None:
    [first] = trained(registry, tmp_path, "a")
    registry.promote(first, "", "")
    champion = tmp_path / "state" / "champion"
    champion.write_bytes(content)
    with pytest.raises(RegistryError, match="damaged") as caught:
        registry.champion()
    with pytest.raises(RegistryError, match="damaged"):
        registry.rollback("", "")
    line = str(caught.value).split("write the line ")[1].split(" into it")[0]
    champion.write_text(line)  # the cure, taken literally
    assert registry.champion() == Champion(first, 2)


def test_a_lost_champion_is_no_fall_back_to_the_base_model(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    registry.promote(first, "", "")
    (tmp_path / "state" / "champion").unlink()
    with pytest.raises(RegistryError, match=f"is missing: write the line .*{first}"):
        registry.champion()


def test_a_champion_whose_folder_is_gone_is_an_error(registry: PolicyRegistry, tmp_path: Path) -> None:
    [first] = trained(registry, tmp_path, "a")
    registry.promote(first, "", "")
    shutil.rmtree(registry.get(first).path)
    with pytest.raises(RegistryError, match="not registered"):
        registry.champion()


def test_a_damaged_history_is_an_error(registry: PolicyRegistry, tmp_path: Path) -> None:
    trained(registry, tmp_path, "a")
    (tmp_path / "state" / "history.jsonl").write_text("nonsense\n")
    with pytest.raises(RegistryError, match=r"history\.jsonl is damaged"):
        registry.rollback("", "")


def test_a_state_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(RegistryError, match="cannot write the policy registry"):
        PolicyRegistry(tmp_path / "state").promote(None, "", "")


def register_b(registry: PolicyRegistry, tmp_path: Path, _: str) -> object:
    return registry.register(adapter(tmp_path, "b"), {"run": "b"})


def promote_a(registry: PolicyRegistry, _: Path, first: str) -> object:
    return registry.promote(first, "better", "ci")


def rollback_twice(registry: PolicyRegistry, _: Path, first: str) -> object:
    registry.promote(first, "better", "ci")
    return registry.rollback("harm", "ci")


def try_out_a(registry: PolicyRegistry, _: Path, first: str) -> object:
    registry.try_out(first, 0.05, "perhaps better", "ci")
    return registry.rollback("harm", "ci")


@pytest.mark.parametrize("work", [register_b, promote_a, rollback_twice, try_out_a])
def test_a_crash_at_any_step_leaves_a_consistent_registry(
    tmp_path: Path, work: Callable[[PolicyRegistry, Path, str], object]
) -> None:
    state = tmp_path / "state"
    registry = PolicyRegistry(state)
    first = trained(registry, tmp_path, "a")[0]
    shutil.copytree(state, tmp_path / "before")
    adapter(tmp_path, "b")

    def prepare() -> None:
        shutil.rmtree(state)
        shutil.copytree(tmp_path / "before", state)

    for died in crash_at_every_step(prepare, lambda: work(registry, tmp_path, first), least=5):
        before = registry.champion()
        assert before.policy in (None, first)
        flips = [entry for entry in registry.history() if entry.action is not Action.REGISTER]
        assert len(flips) == before.epoch
        served = before.canary.policy if before.canary else before.policy
        assert not flips or flips[-1].policy == served
        for policy in registry.policies():
            assert (policy.path / "nested" / "config.json").read_text() == "{}"

        second = registry.register(adapter(tmp_path, "b"), {"run": "b"})
        assert second.startswith("policy-2-") and not list((state / "policies").glob(".*"))
        after = registry.promote(second, "next", "ci")
        assert after == registry.champion() == Champion(second, before.epoch + 1)
        epochs = [entry.epoch for entry in registry.history() if entry.action is not Action.REGISTER]
        assert epochs == list(range(1, after.epoch + 1))
        assert registry.rollback("", "").policy == before.policy
        assert died or work is not promote_a or before == Champion(first, 1)


def test_writers_of_many_processes_take_turns(tmp_path: Path) -> None:
    state = tmp_path / "state"
    registry = PolicyRegistry(state)
    names = trained(registry, tmp_path, "a", "b")
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_flip_many, args=(state, names[i % 2])) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    flips = [entry for entry in registry.history() if entry.action is not Action.REGISTER]
    assert [entry.epoch for entry in flips] == list(range(1, registry.champion().epoch + 1))
    assert all(after.previous == before.policy for before, after in pairwise(flips))


def _flip_many(state: Path, name: str) -> None:
    registry = PolicyRegistry(state)
    for _ in range(10):
        registry.promote(name, "", "")
        registry.promote(None, "", "")
