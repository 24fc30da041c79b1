"""Segments: whatever happens to the bytes, what is read back is a prefix of what was written, or an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.errors import RecordError, SegmentCorrupt
from router.log.segments import (
    CORRUPT,
    FORGOTTEN,
    OPEN,
    SEALED,
    Damage,
    check_seal,
    frame,
    next_seq_after,
    payloads,
    scan,
    segment_path,
)
from router.log.writer import SegmentWriter, quarantine, recover, rewrite
from router.record_codec import MAX_RECORD_BYTES
from tests.support.crash import crash_at_every_step

RECORDS = [b"P" + bytes([65 + i]) * (i * 3) for i in range(6)]


def write(directory: Path, records: list[bytes] = RECORDS, first_seq: int = 7) -> SegmentWriter:
    writer = SegmentWriter(directory, first_seq)
    writer.append([frame(record) for record in records[:2]])
    writer.append([frame(record) for record in records[2:]])
    return writer


def sealed(directory: Path) -> Path:
    path = write(directory).seal()
    assert path is not None
    return path


def test_a_sealed_segment_holds_its_records(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    assert path == segment_path(tmp_path, 7, SEALED)
    assert check_seal(path) == len(RECORDS)
    assert list(payloads(path)) == RECORDS
    assert next_seq_after(path) == 7 + len(RECORDS)
    assert not list(tmp_path.glob(f"*{OPEN}"))


def test_an_open_segment_is_readable_up_to_its_last_commit(tmp_path: Path) -> None:
    writer = write(tmp_path)
    assert list(payloads(writer.path)) == RECORDS
    assert scan(writer.path).end == writer.size
    assert next_seq_after(writer.path) >= writer.next_seq
    writer.abandon()


def test_a_reader_that_listed_an_open_segment_finds_it_sealed(tmp_path: Path) -> None:
    writer = write(tmp_path)
    listed = writer.path
    writer.seal()
    assert list(payloads(listed)) == RECORDS


def test_an_empty_segment_leaves_no_file(tmp_path: Path) -> None:
    assert SegmentWriter(tmp_path, 0).seal() is None
    assert list(tmp_path.iterdir()) == []


def test_records_have_a_length_bound() -> None:
    with pytest.raises(RecordError, match="does not fit"):
        frame(b"")
    with pytest.raises(RecordError, match="does not fit"):
        frame(bytes(MAX_RECORD_BYTES + 1))


def test_recovery_after_a_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    whole = write(tmp_path)
    whole.abandon()
    content = whole.path.read_bytes()
    ends = [scan(whole.path).end - sum(len(frame(r)) for r in RECORDS[i:]) for i in range(len(RECORDS) + 1)]
    for cut in range(len(content) + 1):
        whole.path.write_bytes(content[:cut])
        expected = sum(cut >= end for end in ends[1:])
        found = recover(whole.path)
        assert found.records == expected
        if expected == 0:
            assert found.path is None and not whole.path.exists()
            continue
        assert found.path is not None
        assert check_seal(found.path) == expected
        assert list(payloads(found.path)) == RECORDS[:expected]
        assert found.bytes_dropped == cut - ends[expected]
        found.path.unlink()


def test_recovery_after_a_flipped_bit_keeps_the_records_before_it(tmp_path: Path) -> None:
    whole = write(tmp_path)
    whole.abandon()
    content = whole.path.read_bytes()
    for position in range(len(content)):
        whole.path.write_bytes(flip(content, position))
        found = recover(whole.path)
        if found.path is not None and found.path.suffix == SEALED:
            kept = list(payloads(found.path))
            assert kept == RECORDS[: len(kept)] and len(kept) < len(RECORDS)
            assert found.bytes_dropped > 0
        if found.path is not None:
            found.path.unlink()


def test_a_flipped_bit_anywhere_in_a_sealed_segment_is_found(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(flip(content, position))
        with pytest.raises(SegmentCorrupt):
            check_seal(path)


def test_a_cut_sealed_segment_is_found(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(SegmentCorrupt):
            check_seal(path)


def test_a_tail_of_zeros_is_no_record(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.abandon()
    os.truncate(writer.path, writer.size + 4096)  # what a power loss leaves on some file systems
    assert scan(writer.path).damage is Damage.LENGTH
    assert recover(writer.path).records == len(RECORDS)


def test_a_file_that_is_no_segment_is_set_aside_not_deleted(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 3, OPEN)
    path.write_bytes(b"something else entirely, of some length")
    found = recover(path)
    assert found.path == segment_path(tmp_path, 3, CORRUPT)
    assert found.path.read_bytes().startswith(b"something else")


def test_forgetting_keeps_the_sequence_numbers(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    assert rewrite(path, lambda payload: payload == RECORDS[2]) == 1
    assert check_seal(path) == len(RECORDS)
    assert list(payloads(path)) == [*RECORDS[:2], FORGOTTEN, *RECORDS[3:]]
    assert RECORDS[2] not in path.read_bytes()
    assert rewrite(path, lambda payload: payload == RECORDS[2]) == 0


def test_sealing_leaves_out_what_was_forgotten(tmp_path: Path) -> None:
    path = write(tmp_path).seal(lambda payload: payload == RECORDS[5])
    assert path is not None
    assert check_seal(path) == len(RECORDS)
    assert list(payloads(path)) == [*RECORDS[:5], FORGOTTEN]


def test_a_quarantined_segment_keeps_its_numbers_taken(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    assert next_seq_after(quarantine(path)) >= 7 + len(RECORDS)


def test_a_deleted_segment_is_an_error_not_a_silent_loss(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.path.unlink()
    with pytest.raises(FileNotFoundError, match="deleted while it was written"):
        writer.append([frame(b"Pmore")])
    writer.abandon()


@pytest.mark.parametrize("forgotten", [None, RECORDS[1]])
def test_a_crash_at_any_step_of_sealing_loses_nothing(tmp_path: Path, forgotten: bytes | None) -> None:
    expected = [FORGOTTEN if record == forgotten else record for record in RECORDS]
    forget = (lambda payload: payload == forgotten) if forgotten else None

    def prepare() -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        write(tmp_path).abandon()

    for _ in crash_at_every_step(prepare, lambda: recover(segment_path(tmp_path, 7, OPEN), forget), least=4):
        found = recover(segment_path(tmp_path, 7, OPEN), forget)
        assert found.path is not None
        assert list(payloads(found.path)) == expected
        assert check_seal(found.path) == len(expected)


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]
