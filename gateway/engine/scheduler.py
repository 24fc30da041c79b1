"""The generation thread: admits requests, prefills their prompts and decodes all running rows together."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from gateway.engine.batch import Batch, PaddedCache
from gateway.engine.generate import next_events
from gateway.engine.model import LanguageModel
from gateway.engine.row import Event, Failure, Row, Sink

log = logging.getLogger(__name__)

PREFILL_TOKENS = 512
"""Prompt tokens computed between two decoding steps: a long prompt must not stall the running rows."""


STOPPING = "The engine is stopping"


class Refused(Exception):
    """A job is not taken: too many wait already, or the engine is stopping. The message says which."""


@dataclass(eq=False, slots=True)
class Job:
    """Samples of one prompt. All its rows are admitted together and share one prefill."""

    prompt_ids: Sequence[int]
    slot: str | None
    rows: Sequence[Row]
    sink: Sink
    cancelled: bool = False


@dataclass(slots=True)
class Prefill:
    """A job whose prompt is being computed, chunk by chunk."""

    job: Job
    cache: PaddedCache
    done: int = 0


Arrival = tuple[Sequence[Row], PaddedCache, int]
"""Rows that join a batch, the one-row cache of their prompt, and the prompt's length."""


class Scheduler:
    """Owns the model from `start` to `stop`. Every public method may be called from any thread."""

    def __init__(self, model: LanguageModel, max_rows: int, max_waiting: int) -> None:
        self.max_rows = max_rows
        self._model = model
        self._max_waiting = max_waiting
        self._waiting: deque[Job] = deque()
        self._prefill: Prefill | None = None
        self._running: dict[Row, Job] = {}
        self._batches: dict[str | None, Batch] = {}
        self._controls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._retired: dict[str, Callable[[], None]] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)

    def start(self) -> None:
        """Start the generation thread."""
        self._thread.start()

    def interrupt(self) -> None:
        """Fail what is running or waiting, at the next token, and end the thread. Safe in a signal handler."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def stop(self, timeout: float) -> None:
        """Interrupt, and wait at most `timeout` seconds for the thread to end."""
        self.interrupt()
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the generation thread runs."""
        return self._thread.is_alive()

    def load(self) -> tuple[int, int]:
        """Return (rows running, requests waiting)."""
        with self._wake:
            return len(self._running), len(self._waiting)

    def submit(self, job: Job) -> None:
        """Queue a job. Raises Refused."""
        with self._wake:
            if self._stopping:
                raise Refused(STOPPING)
            if len(self._waiting) >= self._max_waiting:
                raise Refused("The engine's queue is full; try again later")
            self._waiting.append(job)
            self._wake.notify()

    def cancel(self, job: Job) -> None:
        """Stop a job at the next token; it gets no further events. Harmless on a finished one."""
        with self._wake:
            job.cancelled = True
            self._wake.notify()

    def call(self, function: Callable[[], None]) -> Future[None]:
        """Run `function` on the generation thread between two steps. Raises Refused when the thread is ending."""
        future: Future[None] = Future()
        with self._wake:
            if self._stopping:
                raise Refused(STOPPING)
            self._controls.append((function, future))
            self._wake.notify()
        return future

    def retire(self, slot: str, release: Callable[[], None]) -> None:
        """Run `release` on the generation thread as soon as no job uses the adapter slot."""
        with self._wake:
            self._retired[slot] = release
            self._wake.notify()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._wait():
                    self._run_controls()
                    self._forget_cancelled()
                    self._decode(self._admit())
                    self._release_retired()
        finally:
            # Whatever ended the loop, nobody may be left waiting.
            with self._wake:
                self._stopping = True
                left = {*self._running.values(), *self._waiting}
                self._waiting.clear()
                controls = list(self._controls)
            for _, future in controls:
                future.set_exception(Refused(STOPPING))
            for job in left:
                self._fail(job, STOPPING)

    def _run_controls(self) -> None:
        while self._controls:
            function, future = self._controls.popleft()
            try:
                function()
            except Exception as error:  # noqa: BLE001  (the caller gets whatever it was through the future)
                future.set_exception(error)
            else:
                future.set_result(None)

    def _wait(self) -> bool:
        """Sleep until there is something to do; return False when it is time to stop."""
        with self._wake:
            self._wake.wait_for(
                lambda: (
                    self._stopping or self._controls or self._waiting or self._prefill or self._batches or self._retired
                )
            )
            return not self._stopping

    def _forget_cancelled(self) -> None:
        with self._wake:
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
        for row in [row for row, job in self._running.items() if job.cancelled]:
            del self._running[row]
        if self._prefill is not None and self._prefill.job.cancelled:
            self._prefill = None

    def _admit(self) -> dict[str | None, list[Arrival]]:
        """Prefill waiting jobs, in order, while there is room and budget; return the rows that now can decode."""
        arrivals: dict[str | None, list[Arrival]] = {}
        budget = PREFILL_TOKENS
        while budget > 0 and (prefill := self._prefill or self._next_prefill()) is not None:
            job = prefill.job
            chunk = job.prompt_ids[prefill.done : prefill.done + budget]
            budget -= len(chunk)
            self._prefill = prefill
            try:
                logits = self._extend(prefill, chunk)
                if prefill.done < len(job.prompt_ids):
                    continue
                self._emit(job.rows, next_events(logits.expand(len(job.rows), -1), job.rows))
            except Exception as error:  # a process boundary: whatever torch raises fails this job alone
                log.exception("prefill failed")
                self._fail(job, f"Prefill failed: {error}")
            else:
                alive = [row for row in job.rows if row in self._running]
                if alive:
                    arrivals.setdefault(job.slot, []).append((alive, prefill.cache, len(job.prompt_ids)))
            self._prefill = None
        return arrivals

    def _next_prefill(self) -> Prefill | None:
        """Take the first waiting job if its rows fit beside the running ones."""
        with self._wake:
            if not self._waiting or len(self._running) + len(self._waiting[0].rows) > self.max_rows:
                return None
            job = self._waiting.popleft()
            self._running.update(dict.fromkeys(job.rows, job))
        return Prefill(job, PaddedCache.empty(self._model.layer_count))

    def _extend(self, prefill: Prefill, chunk: Sequence[int]) -> Tensor:
        """Compute one chunk of a prompt and return the logits [1, vocabulary] after it."""
        device = self._model.device
        ids = torch.tensor([list(chunk)], device=device)
        positions = torch.arange(prefill.done, prefill.done + len(chunk), device=device).unsqueeze(0)
        logits = self._model.forward(prefill.job.slot, ids, positions, None, prefill.cache)
        prefill.done += len(chunk)
        return logits

    def _decode(self, arrivals: dict[str | None, list[Arrival]]) -> None:
        """Advance every batch by one token, after letting finished rows out and arrivals in."""
        for slot in dict.fromkeys((*self._batches, *arrivals)):
            batch = self._batches.setdefault(slot, Batch(self._model, slot))
            joining = arrivals.get(slot, [])
            staying = [row for row in batch.rows if row in self._running]
            try:
                if joining or len(staying) < len(batch.rows):
                    batch.rebuild(staying, joining)
                if not batch.rows:
                    del self._batches[slot]
                    continue
                self._emit(batch.rows, next_events(batch.step(), batch.rows))
            except Exception as error:  # likewise, it fails this batch alone
                log.exception("decoding failed")
                rows = {*staying, *(row for joined, _, _ in joining for row in joined)}
                for job in {self._running[row] for row in rows if row in self._running}:
                    self._fail(job, f"Decoding failed: {error}")
                del self._batches[slot]

    def _release_retired(self) -> None:
        with self._wake:
            busy = {job.slot for job in (*self._running.values(), *self._waiting)}
            free = [slot for slot in self._retired if slot not in busy]
            releases = [self._retired.pop(slot) for slot in free]
        for release in releases:
            release()

    def _emit(self, rows: Sequence[Row], events: Sequence[Event]) -> None:
        """Hand each job its events and forget the rows that ended."""
        by_job: dict[Job, list[Event]] = {}
        for row, event in zip(rows, events, strict=True):
            job = self._running[row]
            by_job.setdefault(job, []).append(event)
        for job, its_events in by_job.items():
            failure = next((event for event in its_events if isinstance(event, Failure)), None)
            if failure is not None:
                self._fail(job, failure.message)
            elif not job.cancelled:
                job.sink(its_events)
        for row, event in zip(rows, events, strict=True):
            if not isinstance(event, Failure) and event.finish_reason is not None:
                self._running.pop(row, None)

    def _fail(self, job: Job, message: str) -> None:
        for row in job.rows:
            self._running.pop(row, None)
        if not job.cancelled:
            job.sink([Failure(message)])
