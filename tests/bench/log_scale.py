"""How a large group log is read: MB/s and peak memory of `log stats`, a dataset and `log compact`, each a process.

    python -m tests.bench.log_scale --groups 1000000 --dir /var/tmp/log-scale

writes the log with the gateway's own writer (64 MiB segments; groups of 2 to 4 samples with token ids and
log-probabilities), reads it, compacts it, and reads it again. MB/s are of the bytes of the segments, over CPU time
(`cpu`) and over time (`wall`). The directory must be empty, and is left as it is.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from uuid import UUID

from msgspec.structs import replace

from router.cli import main as thinktwice
from router.log.groups import claim_worker, segments
from router.log.segments import SEALED, frame
from router.log.writer import SegmentWriter
from router.peak_memory import peak_rss_reader
from router.record_codec import encode
from router.records import GroupRecord
from tests.support.training_log import FINGERPRINT, trained_group, trained_sample
from training.curriculum import Choice
from training.dataset import Accepts, read_dataset
from training.rows import ModelLimits

SEGMENT_BYTES = 64 * 1024 * 1024
BATCH = 64  # groups of one commit
TEMPLATES = 200
VOCABULARY = 50_000
MAX_GROUPS = 4000  # the trainer's default


def templates(rng: random.Random) -> list[GroupRecord]:
    """Groups of which one in ten has no consent, and one in twenty is held out."""

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCABULARY) for _ in range(count))

    def one() -> GroupRecord:
        lengths = [rng.randrange(30, 90) for _ in range(rng.randrange(2, 5))]
        words = " ".join(rng.choices(["the", "answer", "is", "therefore", "sum", "of", "seven", "and"], k=60))
        samples = tuple(
            trained_sample(
                index,
                float(rng.random() < 0.5),
                message={"role": "assistant", "content": f"{words[: 4 * length]} \\boxed{{{index}}}"},
                completion_token_ids=ids(length),
                behavior_logprobs=tuple(-rng.random() for _ in range(length)),
            )
            for index, length in enumerate(lengths)
        )
        return trained_group(
            samples=samples,
            prompt_token_ids=ids(80),
            messages=({"role": "user", "content": words},),
            train_consent=rng.random() > 0.1,
            heldout=rng.random() < 0.05,
            planned_samples=len(samples),
        )

    return [one() for _ in range(TEMPLATES)]


def records(count: int) -> Iterator[GroupRecord]:
    """That many groups, each with an id and a time of its own."""
    rng = random.Random(0)
    known = templates(rng)
    for number in range(count):
        group_id = str(UUID(int=(number << 80) | 0x7000_8000_0000_0000_0000 | rng.getrandbits(48)))
        yield replace(known[number % TEMPLATES], group_id=group_id, created_at=1.7e9 + number)


def write(log_dir: Path, count: int) -> None:
    worker = claim_worker(log_dir)
    writer, batch = SegmentWriter(worker.path, 0), []
    for record in records(count):
        batch.append(frame(encode(record)))
        if len(batch) == BATCH:
            writer.append(batch)
            batch.clear()
        if writer.size >= SEGMENT_BYTES:
            writer.seal()
            writer = SegmentWriter(worker.path, writer.next_seq)
    writer.append(batch)
    writer.seal()
    worker.release()


def command(log_dir: Path, action: str) -> None:
    with redirect_stdout(StringIO()):
        assert thinktwice(["log", action, "--dir", str(log_dir), "--json"]) == 0


def dataset(log_dir: Path) -> None:
    limits = ModelLimits(vocab_size=VOCABULARY, max_length=4096)
    found = read_dataset(log_dir, Accepts(None, None, FINGERPRINT, limits), Choice(MAX_GROUPS))
    assert len(found.groups) == min(MAX_GROUPS, len(found.groups)) and found.counts.groups_read > 0


def measured(work: Callable[[], None], size: int) -> dict[str, float]:
    """CPU and wall seconds, MB/s over both, and this process's own peak memory in MB."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    rates = {"mb_per_cpu_s": size / cpu_s / 1e6, "mb_per_wall_s": size / wall_s / 1e6} if size else {}
    return {"cpu_s": cpu_s, "wall_s": wall_s, **rates, "peak_mb": peak_rss_reader()() / 1024**2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    steps: dict[str, Callable[[], None]] = {
        "write": lambda: write(args.dir, args.groups),
        "stats": lambda: command(args.dir, "stats"),
        "dataset": lambda: dataset(args.dir),
        "compact": lambda: command(args.dir, "compact"),
    }
    if args.step:
        print(json.dumps(measured(steps[args.step], args.size)))
        return
    args.dir.mkdir(parents=True, exist_ok=True)
    assert not any(args.dir.iterdir()), f"{args.dir} is not empty"
    size = 0
    for step in ("write", "stats", "dataset", "compact", "stats", "dataset"):
        given = ["--dir", str(args.dir), "--groups", str(args.groups), "--step", step, "--size", str(size)]
        done = subprocess.run([sys.executable, "-m", "tests.bench.log_scale", *given], check=True, capture_output=True)
        size = size or sum(path.stat().st_size for path in segments(args.dir, SEALED))
        kept = sum(path.stat().st_size for path in args.dir.rglob("*") if path.is_file())
        found = {name: round(value, 1) for name, value in json.loads(done.stdout).items()}
        print(json.dumps({"step": step, "groups": args.groups, "log_mb": round(kept / 1e6, 1), **found}), flush=True)


if __name__ == "__main__":
    main()
