"""`deploy/compose.yaml` against its schema, the real commands, and the files beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from gateway.local.children import free_port
from gateway.redis_server import find_server
from router.cli import GROUP, build_parser
from router.settings import Settings, load_settings
from tests.support.compose import CHOSEN, DEPLOY, FILE, ROOT, compose, flags, service
from tests.support.prometheus_server import prometheus_folder

SERVICES = ("vllm", "redis", "gateway", "trainer", "prometheus", "grafana")
PINNED = re.compile(r"[a-z0-9/.-]+:v?\d+\.\d+\.\d+(-[a-z0-9]+)*")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(DEPLOY / "thinktwice.toml")


def test_it_is_what_the_compose_specification_allows(tmp_path: Path) -> None:
    assert _checked(FILE).returncode == 0, _checked(FILE).stdout
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILE.read_text().replace("restart: unless-stopped", "restarts: unless-stopped"))
    assert _checked(broken).returncode == 1


def test_every_image_is_pinned() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    images = [each["image"] for each in compose()["services"].values()] + [base for base in bases if base not in stages]
    assert len(images) == len(SERVICES) + 1
    assert all(PINNED.fullmatch(image) for image in images), images
    assert not PINNED.fullmatch("redis:8") and not PINNED.fullmatch("redis:latest")


def test_every_service_restarts_and_those_that_serve_say_how_they_are() -> None:
    services = compose()["services"]
    assert tuple(services) == SERVICES
    assert {each["restart"] for each in services.values()} == {"unless-stopped"}
    assert {name for name, each in services.items() if "healthcheck" not in each} == {"trainer"}  # serves nobody
    for each in services.values():
        for other, wanted in each.get("depends_on", {}).items():
            assert wanted["condition"] == "service_started" or "healthcheck" in services[other]


def test_nothing_is_reached_from_outside(settings: Settings) -> None:
    for each in compose()["services"].values():
        assert each["network_mode"] == "host" and "ports" not in each
    cache = service("redis")["command"]
    addresses = [
        settings.server.host,
        flags("vllm")["host"],
        cache[cache.index("--bind") + 1],
        flags("prometheus")["web.listen-address"].split(":")[0],
        service("grafana")["environment"]["GF_SERVER_HTTP_ADDR"],
    ]
    assert addresses == ["127.0.0.1"] * 5


def test_the_services_agree_on_their_ports(settings: Settings) -> None:
    cache = service("redis")["command"]
    ports = {
        "vllm": int(flags("vllm")["port"]),
        "redis": int(cache[cache.index("--port") + 1]),
        "gateway": settings.server.port,
        "prometheus": int(flags("prometheus")["web.listen-address"].split(":")[1]),
        "grafana": int(service("grafana")["environment"]["GF_SERVER_HTTP_PORT"]),
    }
    assert len(set(ports.values())) == 5
    for name, port in ports.items():
        test = " ".join(service(name)["healthcheck"]["test"])
        assert re.search(rf"(127\.0\.0\.1:|-p ){port}\b", test), f"{name} is asked elsewhere: {test}"
    assert settings.redis.url is not None
    assert _port(settings.backend.url) == ports["vllm"] and _port(settings.redis.url) == ports["redis"]
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets == {"thinktwice": [f"127.0.0.1:{ports['gateway']}"], "vllm": [f"127.0.0.1:{ports['vllm']}"]}
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert [_port(source["url"]) for source in sources] == [ports["prometheus"]]


def test_what_is_mounted_exists() -> None:
    named = compose()["volumes"].keys()
    for name in SERVICES:
        for source in (source for source, *_ in _mounts(name) if not source.startswith("/")):
            assert source in named or (DEPLOY / source).exists(), f"{name}: {source}"
    used = {source for name in SERVICES for source, *_ in _mounts(name)}
    assert set(named) <= used


def test_an_adapter_has_one_path_for_all_and_vllm_may_only_read_it(settings: Settings) -> None:
    policies = str(settings.state.dir / "policies")
    mounted = {name: dict(zip(["at", "mode"], rest, strict=False)) for name, rest in _mounted("policies").items()}
    assert {name: mount["at"] for name, mount in mounted.items()} == dict.fromkeys(
        ["vllm", "gateway", "trainer"], policies
    )
    assert mounted["vllm"]["mode"] == "ro" and "mode" not in mounted["gateway"]
    for volume, path in (("state", settings.state.dir), ("log", settings.log.dir)):
        assert _mounted(volume) == {"gateway": [str(path)], "trainer": [str(path)]}
        assert str(path) in (DEPLOY / "Dockerfile").read_text(), "a new volume takes its owner from the image's folder"


def test_the_gateway_and_the_trainer_read_the_committed_configuration() -> None:
    for name in ("gateway", "trainer"):
        mounts = {source: rest[0] for source, *rest in _mounts(name)}
        command = service(name)["command"]
        assert command[command.index("--config") + 1] == mounts["./thinktwice.toml"]


def test_the_trainer_finds_the_questions_and_the_gateway(settings: Settings) -> None:
    mounts = dict(volume.split(":")[:2] for volume in service("trainer")["volumes"])
    assert mounts["/dev/null"] == str(settings.training.eval_data)  # until EVAL_DATA names a file
    chosen = compose(CHOSEN | {"EVAL_DATA": "/srv/eval.jsonl"})["services"]["trainer"]["volumes"]
    assert f"/srv/eval.jsonl:{settings.training.eval_data}:ro" in chosen
    assert _port(settings.training.gateway_url) == settings.server.port


def test_the_gateways_command_line_is_one() -> None:
    args = build_parser(entry_points(group=GROUP)).parse_args(service("gateway")["command"])
    assert args.run.__module__ == "gateway.commands.serve"


def test_vllm_and_the_trainer_have_the_same_model_and_rank(settings: Settings) -> None:
    model, trained = service("vllm")["command"][0], service("trainer")["command"]
    assert trained[trained.index("--model") + 1] == model == f"/models/{CHOSEN['MODEL_NAME']}"
    assert [f"{CHOSEN['MODEL_DIR']}:{model}:ro" in service(name)["volumes"] for name in ("vllm", "trainer")] == [
        True
    ] * 2
    assert int(flags("vllm")["max-lora-rank"]) >= settings.training.rank


def test_the_example_of_the_environment_names_what_has_no_default() -> None:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given.keys() == CHOSEN.keys() == set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert compose(given)["services"].keys() == set(SERVICES)
    with pytest.raises(KeyError):
        compose({})


def test_the_dockerfile_copies_what_is_there_and_builds_what_is_asked() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE))
    assert set(re.findall(r"--from=(\S+)", dockerfile)) <= stages
    for name in ("gateway", "trainer"):
        build = service(name)["build"]
        assert build["target"] in stages and (DEPLOY / build["context"] / build["dockerfile"]).samefile(
            DEPLOY / "Dockerfile"
        )


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    promtool = prometheus_folder() / "promtool"
    file = DEPLOY / "prometheus" / "prometheus.yml"
    checked = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "SUCCESS" in checked.stdout, checked.stderr
    broken = tmp_path / "prometheus.yml"
    broken.write_text(file.read_text().replace("job_name", "jobname"))
    assert subprocess.run([promtool, "check", "config", broken], capture_output=True, check=False).returncode != 0


def test_redis_takes_its_command_line() -> None:
    program, server = service("redis")["command"], find_server()
    assert program[0] == "redis-server" and server is not None
    port, words = free_port(), program[1:]
    words[words.index("--port") + 1] = str(port)
    process = subprocess.Popen([*server, *words], stdout=subprocess.DEVNULL)
    try:
        retry = Retry(ConstantBackoff(0.05), 200)
        with redis.Redis(port=port, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
            said = client.config_get("*")
    finally:
        process.terminate()
        process.wait(10)
    assert said["maxmemory"] == str(512 * 2**20) and said["maxmemory-policy"] == "volatile-lfu"
    assert (said["save"], said["appendonly"], said["bind"]) == ("", "no", "127.0.0.1")


def _checked(file: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        str(file),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _mounts(name: str) -> Iterator[list[str]]:
    yield from (volume.split(":") for volume in service(name).get("volumes", ()))


def _mounted(volume: str) -> dict[str, Any]:
    """Where each service has a named volume, and how."""
    return {name: rest for name in SERVICES for source, *rest in _mounts(name) if source == volume}


def _port(url: str) -> int | None:
    return urlsplit(url).port
