"""The scorecard's part from feedback, over a log on disk: figures, intervals, teams, tenants, what does not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.outcomes import MAX_TEAMS, WINDOW_S, Outcomes
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.enums import Purpose
from router.log.forget import forget
from router.log.index import GroupIndex
from router.log.labels import Label, LabelSource, append_label
from tests.support.asgi import application, get
from tests.support.groups import group
from tests.support.serving import serving
from tests.support.training_log import write_log

MADE = 1_700_000_000.0  # when the groups were answered
NOW = MADE + 86400


def say(log_dir: Path, group_id: str, **fields: Any) -> None:
    known: dict[str, Any] = {"at": NOW - 60, "source": LabelSource.FEEDBACK, "tenant": "local", "author": "k"}
    append_label(log_dir, Label(group_id=group_id, **(known | fields)))


async def report(log_dir: Path, tenant: str | None = None, now: float = NOW) -> dict[str, Any]:
    return await Outcomes(GroupIndex(log_dir), lambda: now).report(tenant)


async def test_every_figure_with_its_count_interval_and_window(tmp_path: Path) -> None:
    write_log(tmp_path, [group(f"g{number}") for number in range(9)])
    for number in range(9):
        say(tmp_path, f"g{number}", team="a" if number < 6 else "b", minutes_saved=float(number), rating=1 + number % 5,
            resolved_at=MADE + 100 * (number + 1))  # fmt: skip
    found = await report(tmp_path)
    minutes, resolution, satisfaction = (
        found[name] for name in ("minutes_saved", "time_to_resolution_seconds", "satisfaction")
    )
    assert (minutes["value"], minutes["n"], minutes["total"]) == (4.0, 9, 36.0)
    assert minutes["low"] == pytest.approx(4 - 1.959964 * (7.5 / 9) ** 0.5) and minutes["high"] == pytest.approx(
        8 - minutes["low"]
    )
    assert resolution["value"] == 500.0 and resolution["low"] == 200.0 and resolution["high"] == 800.0
    assert (satisfaction["successes"], satisfaction["n"], satisfaction["mean_rating"]) == (3, 9, pytest.approx(25 / 9))
    done = found["resolved_per_day"]
    assert (done["value"], done["n"]) == (9 / 30, 9) and done["low"] < 9 / 30 < done["high"]
    assert {team: figure["value"] for team, figure in done["by_team"].items()} == {"a": 6 / 30, "b": 3 / 30}
    assert satisfaction["low"] < 3 / 9 < satisfaction["high"]
    assert minutes["window"] == {"since": NOW - WINDOW_S, "seconds": WINDOW_S, "complete": True, "error": None}
    assert {team: figure["n"] for team, figure in minutes["by_team"].items()} == {"a": 6, "b": 3}
    assert minutes["by_team"]["b"]["value"] == 7.0


async def test_nothing_is_null_and_never_zero(tmp_path: Path) -> None:
    found = await report(tmp_path)
    for name in ("minutes_saved", "time_to_resolution_seconds", "resolved_per_day", "satisfaction"):
        assert (found[name]["value"], found[name]["n"], found[name]["low"], found[name]["by_team"]) == (
            None,
            0,
            None,
            {},
        )
    write_log(tmp_path, [group("g")])
    say(tmp_path, "g", minutes_saved=-3)
    one = (await report(tmp_path))["minutes_saved"]
    assert (one["value"], one["n"], one["low"], one["total"]) == (-3.0, 1, None, -3.0)


async def test_a_group_counts_once_with_the_newest_of_each_field(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g")])
    say(tmp_path, "g", rating=1, minutes_saved=5, team="old")
    say(tmp_path, "g", rating=5, team="new")
    found = await report(tmp_path)
    assert (found["satisfaction"]["n"], found["satisfaction"]["mean_rating"]) == (1, 5)
    assert found["minutes_saved"]["by_team"].keys() == {"new"} and found["minutes_saved"]["value"] == 5


async def test_what_does_not_count(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g"), group("e", purpose=Purpose.EVAL), group("acme", tenant="acme")])
    say(tmp_path, "g", rating=5, tenant="stranger")
    say(tmp_path, "g", rating=5, at=NOW - WINDOW_S - 1)
    say(tmp_path, "g", rating=5, source=LabelSource.REVIEW)
    say(tmp_path, "g", resolved_at=MADE - 1)
    say(tmp_path, "e", rating=5)
    say(tmp_path, "nobody", rating=5)
    found = await report(tmp_path)
    assert found["satisfaction"]["n"] == found["time_to_resolution_seconds"]["n"] == 0
    say(tmp_path, "acme", rating=5, tenant="acme")
    assert (await report(tmp_path))["satisfaction"]["n"] == 1
    forget(tmp_path, tenant="acme")
    assert (await report(tmp_path))["satisfaction"]["n"] == 0


async def test_teams_are_bounded(tmp_path: Path) -> None:
    write_log(tmp_path, [group(f"g{number:03}") for number in range(MAX_TEAMS + 10)])
    for number in range(MAX_TEAMS + 10):
        say(tmp_path, f"g{number:03}", rating=3, team=f"team {number}")
    teams = (await report(tmp_path))["satisfaction"]["by_team"]
    assert len(teams) == MAX_TEAMS + 1 and teams["other"]["n"] == 10


async def test_a_report_is_made_once_in_five_seconds(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g")])
    now = NOW
    outcomes = Outcomes(GroupIndex(tmp_path), lambda: now)
    first = await outcomes.report(None)
    say(tmp_path, "g", rating=5)
    assert await outcomes.report(None) is first and (await outcomes.report("local"))["satisfaction"]["n"] == 1
    now += 6
    assert (await outcomes.report(None))["satisfaction"]["n"] == 1


async def test_over_http_a_tenant_sees_its_own(tmp_path: Path) -> None:
    write_log(tmp_path, [group("l"), group("acme", tenant="acme")])
    for name, tenant in (("l", "local"), ("acme", "acme")):
        say(tmp_path, name, rating=5, tenant=tenant, team=f"{tenant}'s", at=4e9)
    user, admin = (KeyFile(tmp_path).create("acme", role)[0] for role in (Role.USER, Role.ADMIN))
    app = application(serving(tmp_path), keys=tmp_path, tables={"log": {"dir": tmp_path}})
    seen = [(await get(app, "/v1/scorecard", headers={"Authorization": f"Bearer {key}"})).json for key in (user, admin)]
    assert [each["satisfaction"]["by_team"].keys() for each in seen] == [{"acme's"}, {"acme's", "local's"}]
    assert all("throughput_per_minute" in each for each in seen)


async def test_a_log_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    found = await report(tmp_path / "gone")
    assert found["satisfaction"]["n"] == 0 and "cannot be used" in found["satisfaction"]["window"]["error"]
