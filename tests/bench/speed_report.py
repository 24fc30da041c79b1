"""The tables and the verdicts of `gateway_speed.py`. A figure is the median of the rounds, its spread min to max."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from gateway.bench.report import Report, Table, environment
from tests.bench.gateways import BARE, DIRECT, FULL, HIT, LITELLM, PORTKEY
from tests.bench.measured import Measured, Phase, Streams

NOTES = (
    "Every figure is the median of the rounds, with the lowest and the highest round. *Added* is a gateway's time minus"
    " that of the engine alone in the same round. CPU is user and system time of the gateway's processes, without the"
    " engine, Redis and the load generator. RSS counts shared pages in each process that maps them.",
    f"*{BARE}* asks for token ids and log-probabilities, routes, and logs the group with its prompt hash;"
    f" *{FULL}* authenticates, reserves and settles the tenant's limits in Redis and has answers checked in a worker"
    " process, whose CPU counts. The peers pass the request on.",
    "On a machine whose cores are shared, times wait for a core; CPU for the same work varies less, ratios within a"
    " round least.",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, what was measured against it, and whether it is kept; None: not measured in this run."""

    what: str
    values: Sequence[float]
    bar: float
    at_most: bool = True

    @property
    def kept(self) -> bool | None:
        """By the median."""
        if not self.values:
            return None
        median = statistics.median(self.values)
        return median <= self.bar if self.at_most else median >= self.bar


def bars(measured: Measured) -> list[Bar]:
    """Every bar of issue 4."""
    lag = sorted(measured.lag_ms)
    memory = [each.serving / 1e6 for name, each in measured.memory.items() if name in (BARE, FULL)]
    grown = [measured.soak.grown / 1e6] if measured.soak is not None and measured.soak.requests >= 100_000 else []
    hit = [phase.cpu_ms for phase in measured.crowd[HIT]]
    return [
        Bar("added p50, concurrency 1, ms", _added(measured, BARE, _p50), 1.0),
        Bar("added p99, concurrency 1, ms", _added(measured, BARE, _p99), 5.0),
        Bar("requests per CPU-second, times LiteLLM's", _ratio(measured, LITELLM), 8.0, at_most=False),
        Bar("requests per CPU-second, times Portkey's", _ratio(measured, PORTKEY), 4.0, at_most=False),
        Bar("verified cache hit, CPU ms", hit, 0.6),
        Bar("added to the first token, ms", _first(measured, BARE), 2.0),
        Bar("CPU per streamed event, us", _event_us(measured.streams[BARE]), 100.0),
        Bar("RSS of a serving process, MB", memory, 150.0),
        Bar("RSS growth over 100,000 requests, MB", grown, 10.0),
        Bar("/healthz beside verification, p99, ms", [lag[round(0.99 * (len(lag) - 1))]] if lag else [], 20.0),
    ]


def report(measured: Measured, missing: Sequence[str]) -> Report:
    """The page and its JSON."""
    command = {
        "command": " ".join(["python -m tests.bench.gateway_speed", *sys.argv[1:]]),
        "rounds": len(measured.alone[DIRECT]),
    }
    verdicts = [
        [bar.what, f"at {'most' if bar.at_most else 'least'} {bar.bar:g}", spread(bar.values), _word(bar.kept)]
        for bar in bars(measured)
    ]
    return Report(
        "gateway-speed",
        environment() | command | {"left_out": list(missing) or "nothing"},
        {name: asdict(measured)[name] for name in ("alone", "crowd", "streams", "memory", "lag_ms", "soak")},
        [
            Table("Bars", ("bar", "", "median (min to max)", ""), verdicts),
            Table("Whole answers", _WHOLE, [_whole_row(measured, name) for name in measured.names]),
            Table("Streams", _STREAM, [_stream_row(measured, name) for name in measured.names]),
        ],
        NOTES,
    )


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """`median (min to max)`."""
    if not values:
        return "-"
    if len(values) == 1:
        return format(values[0], form)
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


_WHOLE = ("gateway", "p50 ms at 1", "added p50", "added p99", "CPU ms a request at 16", "requests/s at 16", "RSS MB")
_STREAM = ("gateway", "first token ms at 1", "added", "CPU us an event at 8")


def _whole_row(measured: Measured, name: str) -> list[str]:
    crowd, memory = measured.crowd[name], measured.memory[name]
    failed = sum(phase.failed for phase in [*measured.alone[name], *crowd])
    return [
        name + (f" ({failed} failed)" if failed else ""),
        spread([phase.p50_ms for phase in measured.alone[name]]),
        spread(_added(measured, name, _p50)) if name != DIRECT else "",
        spread(_added(measured, name, _p99)) if name != DIRECT else "",
        spread([phase.cpu_ms for phase in crowd]),
        spread([phase.answers / phase.wall_s for phase in crowd], ".0f"),
        f"{memory.serving / 1e6:.0f}, with children {memory.all / 1e6:.0f}",
    ]


def _stream_row(measured: Measured, name: str) -> list[str]:
    rounds = measured.streams[name]
    failed = sum(each.one.failed + each.many.failed for each in rounds)
    if not rounds or failed:
        return [name, f"{failed} failed" if failed else "-", "", ""]
    firsts = [each.one.first_ms for each in rounds if each.one.first_ms is not None]
    added = spread(_first(measured, name)) if name != DIRECT else ""
    return [name, spread(firsts), added, spread(_event_us(rounds))]


def _added(measured: Measured, name: str, of: Callable[[Phase], float]) -> list[float]:
    pairs = zip(measured.alone[name], measured.alone[DIRECT], strict=True)
    return [of(ours) - of(direct) for ours, direct in pairs]


def _first(measured: Measured, name: str) -> list[float]:
    pairs = zip(measured.streams[name], measured.streams[DIRECT], strict=True)
    return [
        ours.one.first_ms - direct.one.first_ms
        for ours, direct in pairs
        if ours.one.first_ms is not None and direct.one.first_ms is not None
    ]


def _ratio(measured: Measured, peer: str) -> list[float]:
    """How often more requests a CPU-second answers than the peer's."""
    if peer not in measured.crowd:
        return []
    return [a.cpu_ms / b.cpu_ms for a, b in zip(measured.crowd[peer], measured.crowd[BARE], strict=True)]


def _event_us(rounds: Sequence[Streams]) -> list[float]:
    return [each.many.cpu_s / each.many.events * 1e6 for each in rounds if each.many.events]


def _p50(phase: Phase) -> float:
    return phase.p50_ms


def _p99(phase: Phase) -> float:
    return phase.p99_ms


def _word(kept: bool | None) -> str:
    return "not measured" if kept is None else "kept" if kept else "MISSED"
