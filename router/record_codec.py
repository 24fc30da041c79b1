"""Records as bytes: the only serialisation of a group, and of a cached answer.

A record is msgpack; above 4 KiB it is compressed with zstandard. Its first byte tells which: `P` plain, `Z` compressed.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TypeVar

import msgspec
import zstandard

from router.errors import RecordError
from router.records import SCHEMA_VERSION, CachedAnswer, GroupColumns, GroupHead, GroupRecord, GroupSummary

MAX_RECORD_BYTES = 64 * 1024 * 1024  # decompressed; a longer claim is a damaged or hostile record
_COMPRESS_ABOVE = 4096
_PLAIN, _ZSTD = b"P", b"Z"


class _Versioned(msgspec.Struct):
    schema_version: int


class _Zstd(threading.local):
    """Contexts of each thread: to make one takes longer than to read a record with it."""

    def __init__(self) -> None:
        self.compressor, self.decompressor = zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()


Versioned = TypeVar("Versioned", GroupRecord, GroupSummary, GroupHead, GroupColumns)

_zstd = _Zstd()
_encoder = msgspec.msgpack.Encoder()
_group_decoder = msgspec.msgpack.Decoder(GroupRecord)
_summary_decoder = msgspec.msgpack.Decoder(GroupSummary)
_head_decoder = msgspec.msgpack.Decoder(GroupHead)
_columns_decoder = msgspec.msgpack.Decoder(GroupColumns)
_answer_decoder = msgspec.msgpack.Decoder(CachedAnswer)
_version_decoder = msgspec.msgpack.Decoder(_Versioned)


def encode(record: GroupRecord | CachedAnswer) -> bytes:
    """The stored form of a record."""
    payload = _encoder.encode(record)
    if len(payload) <= _COMPRESS_ABOVE:
        return _PLAIN + payload
    return _ZSTD + _zstd.compressor.compress(payload)


def decode_group(data: bytes) -> GroupRecord:
    """The group that `encode` stored. Raises `RecordError` for damage and for a schema this code does not know."""
    return _decode(data, _group_decoder)


def decode_summary(data: bytes) -> GroupSummary:
    """A part of the group that `encode` stored, in a fraction of the time. Raises as `decode_group`."""
    return _decode(data, _summary_decoder)


def decode_head(data: bytes) -> GroupHead:
    """A part of the group that `encode` stored, in a fraction of the time. Raises as `decode_group`."""
    return _decode(data, _head_decoder)


def decode_columns(data: bytes) -> GroupColumns:
    """A part of the group that `encode` stored, in a fraction of the time. Raises as `decode_group`."""
    return _decode(data, _columns_decoder)


def uncompressed(data: bytes) -> bytes:
    """The same record, not compressed. Raises `RecordError` when it is damaged."""
    return data if data[:1] == _PLAIN else _PLAIN + _payload(data)


def decode_answer(data: bytes) -> CachedAnswer:
    """The cached answer that `encode` stored. Raises `RecordError` when it is not one."""
    try:
        return _answer_decoder.decode(_payload(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not a cached answer: {error}") from error


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Versioned]) -> Versioned:
    payload = _payload(data)
    try:
        record = decoder.decode(payload)
        version = record.schema_version
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        record, version = None, _version(payload, error)
    if record is None or version != SCHEMA_VERSION:
        raise RecordError(f"group record has schema {version}, this thinktwice reads {SCHEMA_VERSION}: upgrade it")
    return record


def _version(payload: bytes, fault: Exception) -> int:
    """The schema of a record that could not be decoded, unless it is one that should have been."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        version = _version_decoder.decode(payload).schema_version
        if version != SCHEMA_VERSION:
            return version
    raise RecordError(f"not a group record: {fault}") from fault


def _payload(data: bytes) -> bytes:
    if data[:1] == _PLAIN:
        return data[1:]
    if data[:1] == _ZSTD:
        try:
            if zstandard.frame_content_size(data[1:]) > MAX_RECORD_BYTES:
                raise RecordError("compressed record claims more than a record may hold")
            return _zstd.decompressor.decompress(data[1:], max_output_size=MAX_RECORD_BYTES)
        except zstandard.ZstdError as error:
            raise RecordError(f"compressed record is damaged: {error}") from error
    raise RecordError("unknown record framing")
