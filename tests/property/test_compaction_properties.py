"""Whatever a record holds, a reader gets the very same one from a Parquet file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.enums import Purpose
from router.log.compaction import compact
from router.log.groups import Tally, read_groups, read_stored
from router.record_codec import decode_head, encode
from router.records import GroupRecord
from tests.support.groups import group, sample
from tests.support.training_log import write_log

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LOGPROBS = st.none() | st.floats(allow_nan=False)
SAMPLES = st.builds(
    sample,
    index=st.integers(0, 4),
    message=st.dictionaries(TEXT, st.none() | TEXT | st.booleans() | st.integers(0, 2**53), max_size=3),
    completion_token_ids=st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple),
    behavior_logprobs=st.none() | st.lists(LOGPROBS, max_size=5).map(tuple),
    loss_mask=st.none() | st.lists(st.booleans(), max_size=5).map(tuple),
    reward=st.none() | st.floats(0, 1),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "created_at": st.floats(0, 4e9),
    "tenant": TEXT,
    "train_consent": st.booleans(),
    "purpose": st.sampled_from(list(Purpose)),
    "heldout": st.booleans(),
    "messages": st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3).map(tuple),
    "prompt_token_ids": st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
    "template_fingerprint": st.none() | TEXT,
    "profile": st.none() | TEXT,
    "cost_usd": st.none() | st.floats(0, 10),
    "samples": st.lists(SAMPLES, max_size=3).map(tuple),
    "failures": st.lists(TEXT, max_size=2).map(tuple),
}
RECORDS = st.lists(st.builds(group, group_id=TEXT, **FIELDS), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(RECORDS)
def test_records_and_heads_come_back_as_they_were(records: list[GroupRecord]) -> None:
    with tempfile.TemporaryDirectory() as name:
        log_dir = Path(name)
        write_log(log_dir, records)
        before = list(read_groups(log_dir))
        compact(log_dir, min_free_bytes=0)
        assert list(read_groups(log_dir)) == before
        assert [record for _, record in before] == records
        heads = [head for _, head in read_stored(log_dir, tally=Tally())]
        assert heads == [decode_head(encode(record)) for record in records]
