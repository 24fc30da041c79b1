"""`thinktwice log` and `thinktwice policies`, through the dispatcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router.cli import main
from router.log.groups import claim_worker, segments
from router.log.segments import SEALED, frame
from router.log.writer import SegmentWriter, quarantine
from router.record_codec import encode
from router.registry import PolicyRegistry
from tests.support.groups import group, sample


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    worker = claim_worker(tmp_path / "log")
    for first, names in ((0, ("a1", "b1")), (2, ("b2", "a2"))):
        writer = SegmentWriter(worker.path, first)
        ineligible = sample(1, rl_eligible=False, ineligible_reason="no_logprobs")
        groups = [group(name, tenant=name[0], samples=(sample(), ineligible), heldout=name == "b2") for name in names]
        writer.append([frame(encode(record)) for record in groups])
        writer.seal()
    worker.release()
    return tmp_path / "log"


@pytest.fixture
def command(log_dir: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = main(["log", *words, "--dir", str(log_dir), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_verify_finds_nothing_wrong_with_a_sound_log(command: Any) -> None:
    code, found = command("verify")
    assert code == 0
    assert (found["segments"], found["groups"], found["damage"], found["problems"]) == (2, 4, {}, [])


def test_verify_finds_a_flipped_bit(command: Any, log_dir: Path) -> None:
    path = segments(log_dir, SEALED)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, found = command("verify")
    assert code == 1 and found["damage"] == {"segment": 1} and str(path) in found["problems"][0]
    quarantine(path)
    code, found = command("verify")
    assert code == 1 and found["damage"] == {"quarantined": 1}


def test_verify_finds_a_group_that_is_there_twice(command: Any, log_dir: Path) -> None:
    writer = SegmentWriter(log_dir / "w0", 4)
    writer.append([frame(encode(group("a1")))])
    writer.seal()
    code, found = command("verify")
    assert code == 1 and found["damage"] == {"duplicate": 1}


def test_verify_finds_a_record_it_cannot_read(command: Any, log_dir: Path) -> None:
    writer = SegmentWriter(log_dir / "w0", 4)
    writer.append([frame(b"P\xc1"), frame(encode(group(schema_version=2)))])
    writer.seal()
    code, found = command("verify")
    assert code == 1 and found["damage"] == {"record": 2}


def test_a_segment_being_written_is_not_damage(command: Any, log_dir: Path) -> None:
    worker = claim_worker(log_dir)
    writer = SegmentWriter(worker.path, 4)
    writer.append([frame(encode(group("c1")))])
    with writer.path.open("ab") as file:
        file.write(frame(encode(group("c2")))[:-5])  # caught in mid-write
    code, found = command("verify")
    assert (code, found["groups"], found["torn_bytes"]) == (0, 5, 0)
    worker.release()
    code, found = command("verify")  # its writer died: the tail is what a restart cuts off
    assert code == 0 and found["torn_bytes"] > 0
    with writer.path.open("r+b") as file:
        file.seek(40)
        file.write(b"?")
    code, found = command("verify")
    assert code == 1 and found["damage"] == {"crc": 1}
    writer.abandon()


def test_stats_counts_what_the_log_holds(command: Any) -> None:
    code, found = command("stats")
    assert code == 0
    assert (found["groups"], found["samples"], found["completion_tokens"]) == (4, 8, 8)
    assert (found["rl_eligible_samples"], found["ineligible_samples"]) == (4, {"no_logprobs": 4})
    assert (found["heldout_groups"], found["trainable_groups"]) == (1, 3)
    assert found["by_tenant"] == {"a": 2, "b": 2} and found["by_status"] == {"verified": 4}
    assert found["by_route"] == {"single": 4} and found["by_purpose"] == {"prod": 4}
    assert found["first"] == found["last"] == 1_700_000_000.0 and found["bytes"] > 0


def test_stats_counts_the_rest_of_a_damaged_log(command: Any, log_dir: Path) -> None:
    path = segments(log_dir, SEALED)[0]
    path.write_bytes(path.read_bytes()[:-1])
    code, found = command("stats")
    assert code == 1 and found["groups"] == 2 and str(path) in found["problems"][0]


def test_forget_removes_for_good_and_says_so(command: Any, log_dir: Path) -> None:
    assert command("forget", "--tenant", "a") == (
        0,
        {"removed": 2, "labels": 0, "pending": 0, "unsearchable": [], "problems": []},
    )
    assert command("forget", "--group", "b2")[1]["removed"] == 1
    assert command("forget", "--group", "b2")[1]["removed"] == 0
    code, found = command("stats")
    assert code == 0 and (found["groups"], found["forgotten"]) == (1, 3)
    assert command("verify")[1]["forgotten"] == 3


def test_forget_names_a_segment_it_cannot_search(command: Any, log_dir: Path) -> None:
    path = quarantine(segments(log_dir, SEALED)[0])
    code, found = command("forget", "--tenant", "a")
    assert code == 1 and found["unsearchable"] == [str(path)]


@pytest.mark.parametrize("action", [["verify"], ["stats"], ["forget", "--tenant", "a"]])
def test_the_readable_form_names_every_number(
    log_dir: Path, capsys: pytest.CaptureFixture[str], action: list[str]
) -> None:
    assert main(["log", *action, "--dir", str(log_dir)]) == 0
    out = capsys.readouterr().out
    assert all(len(line.split()) >= 2 for line in out.splitlines()) and len(out.splitlines()) >= 3


def test_no_log_is_one_line_with_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in (["verify"], ["stats"], ["forget", "--group", "x"]):
        assert main(["log", *action, "--dir", str(tmp_path / "nothing")]) == 2
        assert "there is no group log" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_the_directory_comes_from_the_configuration(
    log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "thinktwice.toml"
    config.write_text(f'[log]\ndir = "{log_dir}"\n')
    assert main(["log", "verify", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == 4


@pytest.mark.parametrize("words", [["log"], ["log", "forget"], ["log", "forget", "--tenant", "a", "--group", "b"]])
def test_a_command_line_that_says_too_little_or_too_much_is_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_policies_lists_the_base_the_adapters_and_the_champion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "thinktwice.toml"
    config.write_text(f'[state]\ndir = "{tmp_path / "state"}"\n[backend]\nmodel = "tiny"\n')
    assert main(["policies", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "* tiny (base)"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "weights").write_text("w")
    registry = PolicyRegistry(tmp_path / "state")
    name = registry.register(adapter, {})
    registry.promote(name, "better", "test")
    assert main(["policies", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  tiny (base)",
        f"* {name}",
        "epoch 1; * serves as `champion`",
    ]
    assert main(["policies", "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["champion"], found["epoch"], found["base"]) == (name, 1, "tiny")
    (tmp_path / "state" / "champion").write_text("?")
    assert main(["policies", "--config", str(config)]) == 1
    assert "is damaged: write the line" in capsys.readouterr().err


def test_compact_says_what_it_did_and_keeps_what_may_be_kept(command: Any, log_dir: Path, tmp_path: Path) -> None:
    before = command("stats")[1]
    code, done = command("compact")
    assert (code, done["segments"], done["files"], done["groups"], done["problems"]) == (0, 2, 1, 4, [])
    after = command("stats")[1]
    assert {**after, "bytes": 0, "files": 0} == {**before, "bytes": 0, "files": 0} and after["files"] == 1
    assert command("verify")[0] == 0
    config = tmp_path / "keep.toml"
    config.write_text("[log]\nkeep_days = 1\n")
    assert command("compact", "--config", str(config))[1]["removed"] == 4
    assert command("stats")[1]["groups"] == 0


def test_compact_without_room_refuses_with_the_cure(log_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "full.toml"
    config.write_text(f"[log]\nmin_free_bytes = {2**62}\n")
    assert main(["log", "compact", "--dir", str(log_dir), "--config", str(config)]) == 1
    assert not (log_dir / "parquet").exists()
