from pathlib import Path

from router.enums import Purpose
from router.simulation.stream import groups_of, latest_base_model, newest_groups
from tests.support.groups import group
from tests.support.training_log import write_log


def written(log_dir: Path) -> Path:
    """The newest are first in the log, as those of another worker may be."""
    times = {"new": 40.0, "old": 10.0, "middle": 30.0}
    others = [
        group("other", policy="policy-1-12345678", created_at=50.0, base_model="latest"),
        group("eval", policy="base", created_at=45.0, purpose=Purpose.EVAL),
    ]
    write_log(log_dir, [*(group(name, policy="base", created_at=at) for name, at in times.items()), *others])
    return log_dir


def test_the_newest_groups_of_a_policy_are_read_wherever_they_lie(tmp_path: Path) -> None:
    log_dir = written(tmp_path)
    assert [each.group_id for each in newest_groups(log_dir, "base", 2)] == ["new", "middle"]
    assert [each.group_id for each in groups_of(log_dir, "base")] == ["new", "old", "middle"]
    assert list(newest_groups(log_dir, "unknown")) == []


def test_the_base_model_is_that_of_the_newest_group(tmp_path: Path) -> None:
    assert latest_base_model(tmp_path) is None
    assert latest_base_model(written(tmp_path)) == "latest"
