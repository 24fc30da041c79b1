"""Files that earlier versions wrote are read; those of a later one are refused in a line that says the cure.

`tests/golden/upgrade` has a folder for each version, by its commit.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.adapters.memory_store import MemoryStore
from gateway.cache.sealed_store import SealedStore
from gateway.cache.verified_answers import NAMESPACE
from gateway.tenants.key_file import KeyFile
from router.calibration.file import load_calibration
from router.errors import CalibrationError, ThinkTwiceError
from router.heldout import load_salt
from router.log.compaction import compact
from router.log.groups import read_groups
from router.log.index import INDEX_FILE, GroupIndex
from router.log.labels import read_labels
from router.log.manifest import Manifest
from router.record_codec import decode_answer
from router.registry import PolicyRegistry
from router.settings import load_settings
from tests.support.serving import serving
from training.ledger import Exit, Ledger

FOLDER = Path(__file__).parents[2] / "golden" / "upgrade"
OLDEST, NEWEST = "1349998", "03504be"
VERSIONS = (OLDEST, "62fcab0", "c69cf75", NEWEST)  # oldest first


@pytest.fixture(params=VERSIONS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what one version left."""
    return copy_of(request.param, tmp_path)


def copy_of(version: str, folder: Path) -> Path:
    return shutil.copytree(FOLDER / version, folder / version)


def seal_key(home: Path) -> bytes:
    """The key that a gateway of today seals answers with."""
    return serving(home / "state", salt=load_salt(home / "state")).deps.seal_key("answers")


def test_every_folder_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(VERSIONS)


def test_the_log_is_read_and_compacted(home: Path) -> None:
    groups = [record for _, record in read_groups(home / "log")]
    assert [group.status for group in groups] == ["verified", "failed", "verified", "unverified"]
    assert [group.purpose for group in groups] == ["prod"] * 4 and groups[0].messages[0]["content"] == "What is 2 + 2?"
    for group in groups:
        for sample in group.samples:
            assert len(sample.completion_token_ids or ()) == len(sample.behavior_logprobs or ()) > 0
    compact(home / "log", min_free_bytes=0)
    assert [record for _, record in read_groups(home / "log")] == groups
    assert not list((home / "log").glob("w*/*.sealed"))
    found, complete = GroupIndex(home / "log").read(lambda db: db.execute("SELECT count(*) FROM grp").fetchone())
    assert (found, complete) == ((4,), True)


def test_labels_are_read(home: Path) -> None:
    labels = [label for _, label in read_labels(home / "log")]
    assert len(labels) == (home / "log" / "labels.jsonl").exists() and None not in labels


def test_the_registry_goes_on_where_it_was(home: Path) -> None:
    registry = PolicyRegistry(home / "state")
    first, second = (policy.name for policy in registry.policies())
    before = registry.champion()
    assert before.policy == second
    assert Counter(entry.action for entry in registry.history()) == {"register": 2, "promote": 2}
    after = registry.rollback("test", "test")
    assert after.policy == first and after.epoch > before.epoch
    assert registry.try_out(second, 0.1, "test", "test").canary is not None


def test_the_held_out_split_stays(home: Path) -> None:
    before = (home / "state" / "heldout_salt").read_text()
    assert load_salt(home / "state").hex() == before


def test_keys_open_what_they_opened(home: Path) -> None:
    tenants = [key.tenant for key in KeyFile(home / "state").stored()]
    assert tenants == (["acme"] if (home / "state" / "keys.json").exists() else [])
    assert bool(KeyFile(home / "state").ring()) == bool(tenants)


def test_cycles_are_taken_over(home: Path) -> None:
    ledger = Ledger(home / "state" / "training")
    if not (home / "state" / "training").exists():
        return
    [ended], under_way = ledger.cycles(), ledger.unfinished()
    assert (ended.id, ended.exit, ended.groups) == ("c1", Exit.PROMOTED, 3) and under_way is not None
    assert under_way.id == "c2" and ledger.consumed().marker == (1.7e9, ended.last_group)


def test_a_calibration_of_another_version_is_not_used(home: Path) -> None:
    """All of these are of schema 1 and features 1: other features are other numbers."""
    path = home / "state" / "calibration.json"
    for change in (lambda path: path, later) if path.exists() else ():
        with pytest.raises(CalibrationError, match=r"calibration\.json has schema .* `thinktwice calibrate` again$"):
            load_calibration(change(path))


async def test_a_cached_answer_is_the_same_or_a_miss(home: Path) -> None:
    """The first version did not seal what it stored: what nobody sealed is nobody's answer."""
    stored = {name: base64.b64decode(value) for name, value in json.loads((home / "cache.json").read_text()).items()}
    assert len(stored) == 2 and all(name.startswith(NAMESPACE) for name in stored)
    plain, rejected = MemoryStore(10), []
    sealed = SealedStore(plain, seal_key(home), lambda: rejected.append("no seal"))
    for name, value in stored.items():
        await plain.put(name, value, 60)
        if (payload := await sealed.get(name)) is not None:
            assert decode_answer(payload).message["content"] == "The answer is \\boxed{4}."
    assert len(rejected) == (2 if home.name == OLDEST else 0)


def test_every_key_of_the_configuration_is_still_known(home: Path) -> None:
    given = tomllib.loads((home / "thinktwice.toml").read_text())
    read = load_settings(home / "thinktwice.toml").model_dump(mode="json")
    assert given.keys() <= read.keys()
    for section, values in given.items():
        assert values.keys() <= read[section].keys()


def later(path: Path) -> Path:
    """Make a file one of the next version."""
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        path.write_text(re.sub(r'("version"|"schema_version"): ?1\b', r"\1: 99", path.read_text()))
    return path


@pytest.mark.parametrize(
    "file, read",
    [
        ("log/manifest.sqlite", lambda path: Manifest(path.parent).files()),
        ("state/keys.json", lambda path: KeyFile(path.parent).ring()),
        ("state/training/ledger.sqlite", lambda path: Ledger(path.parent).cycles()),
    ],
)
def test_a_later_version_is_refused_with_the_cure(tmp_path: Path, file: str, read: Callable[[Path], object]) -> None:
    path = copy_of(NEWEST, tmp_path) / file
    assert read(path)
    before = later(path).read_bytes()
    with pytest.raises(ThinkTwiceError) as refused:
        read(path)
    said = str(refused.value)
    assert path.name in said and "99" in said and said.endswith("upgrade it") and "\n" not in said
    assert path.read_bytes() == before, "what cannot be read is not touched"


def test_an_index_of_a_later_version_is_made_anew(tmp_path: Path) -> None:
    log = copy_of(NEWEST, tmp_path) / "log"
    for change in (lambda path: None, later):
        found, complete = GroupIndex(log).read(lambda db: db.execute("SELECT count(*) FROM grp").fetchone())
        assert (found, complete) == ((4,), True)
        change(log / INDEX_FILE)
    assert GroupIndex(log).read(lambda db: db.execute("PRAGMA user_version").fetchone())[0] == (1,)
