"""The generation thread: exact log-probabilities, rows that do not feel their neighbours, cancellation, failures."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from gateway.engine.batch import PaddedCache, Part, assemble
from gateway.engine.grammar import Matcher
from gateway.engine.model import Device, Dtype, LanguageModel, load_model
from gateway.engine.row import Event, Failure, FinishReason, Row, TokenEvent
from gateway.engine.sampling import MIN_TEMPERATURE, SamplingParams
from gateway.engine.scheduler import PREFILL_TOKENS, Job, Refused, Scheduler

FREE = SamplingParams(max_tokens=12, ignore_eos=True, seed=3, logprobs=0)
SHORT, LONG = [5, 9, 33], [7 + i % 90 for i in range(50)]


class Run:
    """A submitted job and the events it got."""

    def __init__(
        self, scheduler: Scheduler, model: LanguageModel, prompt: Sequence[int], params: SamplingParams, n: int = 1,
        matcher: Matcher | None = None,
    ) -> None:  # fmt: skip
        self._events: queue.Queue[list[Event]] = queue.Queue()
        self._n = n
        rows = [Row(i, params, prompt, model, matcher) for i in range(n)]
        self.job = Job(prompt, None, rows, self._events.put)
        scheduler.submit(self.job)

    def finish(self) -> list[list[TokenEvent]]:
        """Wait for all samples; return each one's events."""
        samples: list[list[TokenEvent]] = [[] for _ in range(self._n)]
        running = self._n
        while running:
            for event in self._events.get(timeout=20):
                assert isinstance(event, TokenEvent), event
                samples[event.index].append(event)
                running -= event.finish_reason is not None
        return samples

    def failure(self) -> str:
        """Wait for the failure of the job."""
        while True:
            for event in self._events.get(timeout=20):
                if isinstance(event, Failure):
                    return event.message


def tokens(sample: Sequence[TokenEvent]) -> list[int]:
    return [event.token_id for event in sample]


def forward_logprobs(
    network: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float
) -> torch.Tensor:
    """Log-probabilities of a completion by one plain forward pass over prompt + completion, in float32."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logits = network(ids).logits[0, len(prompt) - 1 : -1].float()
    every = torch.log_softmax(logits / temperature, dim=-1)
    return every.gather(1, torch.tensor(completion).unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("prompt", [SHORT, LONG, LONG * 12], ids=["short", "long", "chunked"])
def test_logprobs_are_those_of_a_float32_forward_pass(
    scheduler: Scheduler, model: LanguageModel, reference: LlamaForCausalLM, prompt: list[int], temperature: float
) -> None:
    companions = [Run(scheduler, model, p, replace(FREE, max_tokens=30), n=2) for p in (LONG, SHORT)]
    samples = Run(scheduler, model, prompt, replace(FREE, temperature=temperature), n=3).finish()
    for sample in samples:
        expected = forward_logprobs(reference, prompt, tokens(sample), temperature or 1.0)
        got = torch.tensor([event.logprob for event in sample])
        assert (got - expected).abs().max() <= 1e-3
    for companion in companions:
        companion.finish()


def test_a_chunked_prompt_is_longer_than_one_chunk() -> None:
    assert len(LONG * 12) > PREFILL_TOKENS


def test_greedy_is_the_argmax_of_a_plain_generate(
    scheduler: Scheduler, model: LanguageModel, reference: LlamaForCausalLM
) -> None:
    (sample,) = Run(scheduler, model, LONG, replace(FREE, temperature=0.0, max_tokens=40)).finish()
    network: Any = reference
    out = network.generate(torch.tensor([LONG]), max_new_tokens=40, min_new_tokens=40, do_sample=False, eos_token_id=-1)
    assert tokens(sample) == out[0, len(LONG) :].tolist()


def test_a_seed_gives_the_same_tokens_alone_and_in_any_batch(scheduler: Scheduler, model: LanguageModel) -> None:
    params = replace(FREE, max_tokens=40, seed=11)
    alone = [tokens(s) for s in Run(scheduler, model, SHORT, params, n=3).finish()]
    # Neighbours that arrive earlier and later, end earlier and later, and sample otherwise.
    crowd = [
        Run(scheduler, model, LONG, replace(FREE, max_tokens=25, seed=None, top_p=0.8), n=2),
        Run(scheduler, model, LONG * 12, replace(FREE, max_tokens=60, temperature=0.0)),
    ]
    run = Run(scheduler, model, SHORT, params, n=3)
    crowd.append(Run(scheduler, model, SHORT * 30, replace(FREE, max_tokens=5, top_k=4), n=4))
    assert [tokens(s) for s in run.finish()] == alone
    assert len({tuple(s) for s in alone}) == 3
    for other in crowd:
        other.finish()


def test_sample_i_uses_seed_plus_i(scheduler: Scheduler, model: LanguageModel) -> None:
    several = Run(scheduler, model, SHORT, replace(FREE, seed=40), n=3).finish()
    singles = [Run(scheduler, model, SHORT, replace(FREE, seed=40 + i)).finish()[0] for i in range(3)]
    assert [tokens(s) for s in several] == [tokens(s) for s in singles]


def test_first_tokens_follow_the_models_distribution(
    scheduler: Scheduler, model: LanguageModel, reference: LlamaForCausalLM
) -> None:
    count = 400
    runs = [Run(scheduler, model, SHORT, replace(FREE, max_tokens=1, seed=100 * i), n=16) for i in range(count // 16)]
    drawn = Counter(s[0].token_id for run in runs for s in run.finish())
    with torch.no_grad():
        probabilities = reference(torch.tensor([SHORT])).logits[0, -1].softmax(dim=-1)
    for token in probabilities.topk(5).indices.tolist():
        p = float(probabilities[token])
        assert abs(drawn[token] / count - p) < 5 * (p * (1 - p) / count) ** 0.5


def test_alternatives_are_the_best_tokens(scheduler: Scheduler, model: LanguageModel) -> None:
    (sample,) = Run(scheduler, model, SHORT, replace(FREE, logprobs=3, top_k=2)).finish()
    for event in sample:
        assert [len(event.top), event.top[2][1]] == [3, -torch.inf]
        assert (event.token_id, event.logprob) in event.top[:2]


def test_end_tokens_stop_and_are_counted(scheduler: Scheduler, model: LanguageModel) -> None:
    runs = [Run(scheduler, model, SHORT, SamplingParams(400, seed=s), n=4) for s in (0, 50, 100, 150)]
    ended = [s for run in runs for s in run.finish()]
    reasons = {(s[-1].token_id, s[-1].finish_reason, s[-1].stop_reason) for s in ended}
    assert reasons <= {(0, FinishReason.STOP, None), (2, FinishReason.STOP, 2)} | {
        (s[-1].token_id, FinishReason.LENGTH, None) for s in ended if len(s) == 400
    }
    # generation_config names a second end token; stop_reason tells it from the first, as in vLLM.
    assert {stop for _, reason, stop in reasons if reason is FinishReason.STOP} == {None, 2}
    assert all(not {0, 2} & set(tokens(s)[:-1]) for s in ended)


def test_min_tokens_forbids_the_end_and_its_logprobs_say_so(
    scheduler: Scheduler, model: LanguageModel, reference: LlamaForCausalLM
) -> None:
    (sample,) = Run(scheduler, model, SHORT, SamplingParams(60, seed=1, min_tokens=50)).finish()
    assert not {0, 2} & set(tokens(sample)[:50])
    with torch.no_grad():
        logits = reference(torch.tensor([SHORT])).logits[0, -1]
    logits[[0, 2]] = -torch.inf
    assert sample[0].logprob == pytest.approx(float(logits.log_softmax(-1)[sample[0].token_id]), abs=1e-3)


def test_a_sliding_window_model_matches_its_own_forward_pass(tmp_path: Path, tiny_path: Path) -> None:
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=8, initializer_range=0.4,
        bos_token_id=1, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_path / name).read_bytes())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    model = load_model(str(tmp_path), Device.CPU, Dtype.FLOAT32, None)
    scheduler = Scheduler(model, 16, 8)
    scheduler.start()
    runs = [(prompt, Run(scheduler, model, prompt, replace(FREE, max_tokens=20))) for prompt in (SHORT, LONG)]
    for prompt, run in runs:
        (sample,) = run.finish()
        got = torch.tensor([event.logprob for event in sample])
        assert (got - forward_logprobs(plain, prompt, tokens(sample), 1.0)).abs().max() <= 1e-3
    scheduler.stop(5)


def test_assemble_pads_on_the_left_and_keeps_every_real_column() -> None:
    def cache(rows: int, columns: int, start: float) -> PaddedCache:
        filled = PaddedCache.empty(1)
        states = start + torch.arange(rows * columns, dtype=torch.float32).view(rows, 1, columns, 1)
        filled.padded[0].update(states, -states)
        return filled

    joined = assemble([Part(cache(2, 4, 100), [1], [3]), Part(cache(1, 5, 200), [0, 0], [5, 5])])
    keys, values = joined.padded[0].states()
    expected = [[0, 0, 105, 106, 107], [200, 201, 202, 203, 204], [200, 201, 202, 203, 204]]
    assert keys[:, 0, : joined.length, 0].tolist() == expected
    assert torch.equal(values, -keys)


def test_cancelling_frees_the_places_at_the_next_token(scheduler: Scheduler, model: LanguageModel) -> None:
    endless = Run(scheduler, model, SHORT, replace(FREE, max_tokens=1900), n=16)
    waiting = Run(scheduler, model, SHORT, FREE)
    until(lambda: scheduler.load() == (16, 1))
    scheduler.cancel(endless.job)
    assert len(waiting.finish()[0]) == FREE.max_tokens
    until(lambda: scheduler.load() == (0, 0))


def test_a_cancelled_job_that_waits_is_forgotten(scheduler: Scheduler, model: LanguageModel) -> None:
    endless = Run(scheduler, model, SHORT, replace(FREE, max_tokens=1900), n=16)
    waiting = Run(scheduler, model, SHORT, FREE)
    until(lambda: scheduler.load() == (16, 1))
    scheduler.cancel(waiting.job)
    until(lambda: scheduler.load() == (16, 0))
    scheduler.cancel(endless.job)


def test_the_queue_is_bounded(model: LanguageModel) -> None:
    scheduler = Scheduler(model, max_rows=1, max_waiting=2)
    Run(scheduler, model, SHORT, FREE)
    Run(scheduler, model, SHORT, FREE)
    with pytest.raises(Refused):
        Run(scheduler, model, SHORT, FREE)


class BrokenMatcher(Matcher):
    """A grammar that breaks down outside what the engine foresees."""

    def __init__(self) -> None:
        pass

    @property
    def complete(self) -> bool:
        return False

    def allowed(self) -> torch.Tensor:
        raise OSError("boom")


def test_a_failure_reaches_its_request_and_the_thread_lives_on(scheduler: Scheduler, model: LanguageModel) -> None:
    assert "boom" in Run(scheduler, model, SHORT, FREE, matcher=BrokenMatcher()).failure()
    assert len(Run(scheduler, model, SHORT, FREE).finish()[0]) == FREE.max_tokens
    assert scheduler.alive


def test_stopping_fails_what_runs_and_what_waits(model: LanguageModel) -> None:
    scheduler = Scheduler(model, 1, 8)
    scheduler.start()
    runs = [Run(scheduler, model, SHORT, replace(FREE, max_tokens=1900)) for _ in range(3)]
    until(lambda: scheduler.load() == (1, 2))
    scheduler.stop(5)
    assert [run.failure() for run in runs] == ["The engine is stopping"] * 3
    assert not scheduler.alive
    with pytest.raises(Refused, match="stopping"):
        Run(scheduler, model, SHORT, FREE)
    with pytest.raises(Refused, match="stopping"):
        scheduler.call(lambda: None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_nobody_waiting(model: LanguageModel) -> None:
    def die() -> None:
        raise SystemExit

    scheduler = Scheduler(model, 1, 8)
    scheduler.start()
    runs = [Run(scheduler, model, SHORT, replace(FREE, max_tokens=1900)) for _ in range(2)]
    scheduler.retire("no such slot", die)
    assert [run.failure() for run in runs] == ["The engine is stopping"] * 2
    until(lambda: not scheduler.alive)
    with pytest.raises(Refused):
        Run(scheduler, model, SHORT, FREE)


def test_tiny_temperatures_are_lifted_as_in_vllm(scheduler: Scheduler, model: LanguageModel) -> None:
    lifted, floor = (
        Run(scheduler, model, SHORT, replace(FREE, temperature=t)).finish()[0] for t in (1e-4, MIN_TEMPERATURE)
    )
    assert [(e.token_id, e.logprob) for e in lifted] == [(e.token_id, e.logprob) for e in floor]


def until(condition: Any, seconds: float = 10) -> None:
    """Wait for a condition of the generation thread."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)
