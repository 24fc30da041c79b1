"""Does batching pay? Five samples against one, and the engine against a bare `generate`, in the same run.

    python tests/bench/engine_batching.py --model state/models/smollm2-135m-instruct-b179c952

The engine answers over HTTP, with token ids and log-probabilities as the gateway asks for them; `generate` samples the
same batch from the same weights, without either. Every completion has the same forced length. Rounds are interleaved,
so that a slow minute of the machine hits all settings alike; the table shows the median and the range of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable

import torch
import uvicorn

from gateway.engine.model import Device, Dtype, load_model
from gateway.engine.process import assemble, bind
from gateway.engine.server import create_app

PROMPT = "A farmer has 17 sheep and buys 25 more. Then he sells 8. How many sheep are left? Think step by step."
FIVE_TO_ONE_AT_MOST = 2.5
OF_GENERATE_AT_LEAST = 0.9


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or id of a model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64, help="forced length of every completion")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model, Device.AUTO, Dtype.AUTO, None)
    engine = assemble(model, "bench", max_rows=16)
    server = uvicorn.Server(uvicorn.Config(create_app(engine), log_config=None, http="httptools", loop="uvloop"))
    listener = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"
    messages = [{"role": "user", "content": PROMPT}]
    rendered = model.hf_tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    prompt = rendered["input_ids"].to(model.device)

    def ask(samples: int) -> None:
        body = {
            "messages": messages, "n": samples, "max_tokens": args.tokens, "ignore_eos": True, "logprobs": True,
            "return_token_ids": True,
        }  # fmt: skip
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
            usage = json.loads(answer.read())["usage"]
        assert usage["completion_tokens"] == samples * args.tokens

    def bare(samples: int) -> None:
        batch = prompt.expand(samples, -1)
        with torch.inference_mode():
            out = model.network.generate(
                batch, attention_mask=torch.ones_like(batch), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                min_new_tokens=args.tokens, max_new_tokens=args.tokens,
            )  # fmt: skip
        assert out.shape == (samples, prompt.shape[1] + args.tokens)

    settings: dict[str, Callable[[], None]] = {
        "engine, 1 sample": lambda: ask(1),
        "engine, 5 samples": lambda: ask(5),
        "generate, 1 sample": lambda: bare(1),
        "generate, 5 samples": lambda: bare(5),
    }
    try:
        rounds = measure(settings, args.rounds)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
    print(f"{model.device}, {model.network.dtype}, {args.threads} threads, {prompt.shape[1]} prompt tokens, ", end="")
    print(f"{args.tokens} tokens a sample, {args.rounds} rounds")
    return report(rounds, args.tokens)


def measure(settings: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run every setting once per round, after a warm-up round, and return the seconds each took."""
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for number in range(rounds + 1):
        for name, run in settings.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]], tokens: int) -> int:
    """Print the table and both verdicts; return the exit code."""
    print(f"{'setting':22}{'median s':>10}{'min':>8}{'max':>8}{'tokens/s':>10}")
    for name, values in seconds.items():
        samples = 5 if "5" in name else 1
        median = statistics.median(values)
        print(f"{name:22}{median:10.2f}{min(values):8.2f}{max(values):8.2f}{samples * tokens / median:10.1f}")
    five, one = seconds["engine, 5 samples"], seconds["engine, 1 sample"]
    ok = verdict("5 samples / 1 sample, time", ratios(five, one), FIVE_TO_ONE_AT_MOST, at_most=True)
    for batch in ("1 sample", "5 samples"):
        rates = ratios(seconds[f"generate, {batch}"], seconds[f"engine, {batch}"])
        ok &= verdict(f"engine / generate, {batch}, throughput", rates, OF_GENERATE_AT_LEAST, at_most=False)
    return 0 if ok else 1


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def verdict(name: str, values: list[float], bar: float, at_most: bool) -> bool:
    """Print a ratio with its range over the rounds; return whether its median keeps the bar."""
    median = statistics.median(values)
    kept = median <= bar if at_most else median >= bar
    word = "at most" if at_most else "at least"
    print(
        f"{name}: {median:.2f} ({min(values):.2f} to {max(values):.2f}), {word} {bar}: {'kept' if kept else 'MISSED'}"
    )
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
