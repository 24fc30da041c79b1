"""`deploy/compose*.yaml` against their schema, the real commands, and the files beside them."""

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
from tests.support.compose import CHOSEN, DEPLOY, ROOT, compose, flags, service
from tests.support.prometheus_server import prometheus_folder

FILES = sorted(DEPLOY.glob("compose*.yaml"))
SHARED = ("redis", "gateway", "prometheus", "grafana")
SERVICES = {"gpu": (*SHARED, "vllm", "trainer"), "cpu": (*SHARED, "engine", "trainer")}
# The folders of the image that are made for its user, each by its own name.
OWNED = re.findall(r"/var/lib/\S+", (DEPLOY / "Dockerfile").read_text())
PINNED = re.compile(r"[a-z0-9/.-]+:v?\d+\.\d+\.\d+(-[a-z0-9]+)*(@sha256:[0-9a-f]{64})?")
kinds = pytest.mark.parametrize("kind", SERVICES)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(DEPLOY / "thinktwice.toml")


def test_they_are_what_the_compose_specification_allows(tmp_path: Path) -> None:
    assert len(FILES) == 3 and _checked(*FILES).returncode == 0, _checked(*FILES).stdout
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILES[0].read_text().replace("restart: unless-stopped", "restarts: unless-stopped"))
    assert _checked(broken).returncode == 1


def test_every_image_is_pinned() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    images = [each["image"] for kind in SERVICES for each in compose(kind)["services"].values()]
    images += [base for base in bases if base not in stages]
    assert len(images) == 2 * 6 + 1
    assert all(PINNED.fullmatch(image) for image in images), images
    assert not PINNED.fullmatch("redis:8") and not PINNED.fullmatch("redis:latest")


@kinds
def test_every_service_restarts_and_those_that_serve_say_how_they_are(kind: str) -> None:
    services = compose(kind)["services"]
    assert tuple(services) == SERVICES[kind] and compose(kind)["name"] == "thinktwice"  # the volumes' prefix
    assert {each["restart"] for each in services.values()} == {"unless-stopped"}
    assert {name for name, each in services.items() if "healthcheck" not in each} == {"trainer"}  # serves nobody
    for each in services.values():
        for other, wanted in each.get("depends_on", {}).items():
            assert wanted["condition"] == "service_started" or "healthcheck" in services[other]


@kinds
def test_no_service_has_rights_it_does_not_need(kind: str) -> None:
    for name, each in compose(kind)["services"].items():
        assert each["read_only"] and each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"] and not {"privileged", "cap_add"} & each.keys()
    users = re.findall(r"^USER (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"] * 3 and service("vllm")["user"] == users[0]


def test_the_image_that_serves_has_no_torch() -> None:
    named = re.findall(r"^([a-z0-9-]+)==", (DEPLOY / "locks" / "serve.txt").read_text(), re.MULTILINE)
    assert "uvicorn" in named and not {"torch", "transformers", "peft", "accelerate", "numpy"} & set(named)
    stage = (DEPLOY / "Dockerfile").read_text().partition("AS gateway-packages")[2].partition("FROM")[0]
    assert "locks/serve.txt" in stage and "torch" not in stage


@kinds
def test_nothing_is_reached_from_outside(settings: Settings, kind: str) -> None:
    for each in compose(kind)["services"].values():
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
        "redis": int(cache[cache.index("--tls-port") + 1]),
        "gateway": settings.server.port,
        "prometheus": int(flags("prometheus")["web.listen-address"].split(":")[1]),
        "grafana": int(service("grafana")["environment"]["GF_SERVER_HTTP_PORT"]),
    }
    assert len(set(ports.values())) == 5
    for name, port in ports.items():
        test = " ".join(service(name)["healthcheck"]["test"])
        assert re.search(rf"(127\.0\.0\.1:|-p ){port}\b", test), f"{name} is asked elsewhere: {test}"
    assert cache[cache.index("--port") + 1] == "0", "Redis takes TLS alone"
    asked = re.search(r"@127\.0\.0\.1:(\d+)/", (DEPLOY / "redis" / "credentials").read_text())
    assert asked is not None and int(asked[1]) == ports["redis"]
    engine = service("engine", "cpu")["command"]
    assert _port(settings.backend.url) == ports["vllm"] == int(engine[engine.index("--port") + 1])
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets == {"thinktwice": [f"127.0.0.1:{ports['gateway']}"], "vllm": [f"127.0.0.1:{ports['vllm']}"]}
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert [_port(source["url"]) for source in sources] == [ports["prometheus"]]


@kinds
def test_what_is_mounted_exists(kind: str) -> None:
    named = compose(kind)["volumes"].keys()
    made = {"ca.crt", "redis.crt", "redis.key", "users.acl"}  # by deploy/redis/credentials: test_redis.py
    for name in SERVICES[kind]:
        for source in (source for source, *_ in _mounts(name, kind) if not source.startswith("/")):
            secret = source.removeprefix("./redis/secrets/") in made
            assert source in named or secret or (DEPLOY / source).exists(), f"{name}: {source}"
    used = {source for name in SERVICES[kind] for source, *_ in _mounts(name, kind)}
    assert set(named) <= used
    assert service("gateway", kind)["env_file"] == ["./redis/secrets/gateway.env"]


@kinds
def test_an_adapter_has_one_path_for_all_and_an_engine_may_only_read_it(settings: Settings, kind: str) -> None:
    policies, engine = str(settings.state.dir / "policies"), SERVICES[kind][-2]
    mounted = {name: dict(zip(["at", "mode"], rest, strict=False)) for name, rest in _mounted("policies", kind).items()}
    assert {name: mount["at"] for name, mount in mounted.items()} == dict.fromkeys(
        [engine, "gateway", "trainer"], policies
    )
    assert mounted[engine]["mode"] == "ro" and "mode" not in mounted["gateway"]
    assert policies in OWNED
    for volume, path in (("state", settings.state.dir), ("log", settings.log.dir)):
        theirs = _mounted(volume, kind)
        theirs.pop("engine", None)  # it keeps the converted default model in the state
        assert theirs == {"gateway": [str(path)], "trainer": [str(path)]}
        assert str(path) in OWNED, "a new volume takes its owner from the image's folder"


@kinds
def test_the_gateway_and_the_trainer_read_the_committed_configuration(kind: str) -> None:
    for name in ("gateway", "trainer"):
        mounts = {source: rest[0] for source, *rest in _mounts(name, kind)}
        command = service(name, kind)["command"]
        assert command[command.index("--config") + 1] == mounts["./thinktwice.toml"]


def test_the_trainer_finds_the_questions_and_the_gateway(settings: Settings) -> None:
    mounts = dict(volume.split(":")[:2] for volume in service("trainer")["volumes"])
    assert mounts["/dev/null"] == str(settings.training.eval_data)  # until EVAL_DATA names a file
    chosen = compose("gpu", CHOSEN | {"EVAL_DATA": "/srv/eval.jsonl"})["services"]["trainer"]["volumes"]
    assert f"/srv/eval.jsonl:{settings.training.eval_data}:ro" in chosen
    assert _port(settings.training.gateway_url) == settings.server.port


def test_the_gateways_and_the_engines_command_lines_are_ones(settings: Settings) -> None:
    parser = build_parser(entry_points(group=GROUP))
    assert parser.parse_args(service("gateway")["command"]).run.__module__ == "gateway.commands.serve"
    engine = parser.parse_args(service("engine", "cpu")["command"])
    assert engine.run.__module__ == "gateway.engine.command" and engine.state_dir == settings.state.dir
    assert engine.host == "127.0.0.1"


def test_without_a_gpu_the_trainer_is_the_engines_image(settings: Settings) -> None:
    trainer, engine = service("trainer", "cpu"), service("engine", "cpu")
    assert trainer["image"] == engine["image"] and "build" not in trainer and trainer["entrypoint"] == ["train-loop"]
    assert "deploy" not in trainer and "--model" not in trainer["command"]  # the only one in the state's `models`
    assert f"state:{settings.state.dir}" in engine["volumes"]


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
    texts = "".join(file.read_text() for file in FILES)
    assert given.keys() == CHOSEN.keys() == set(re.findall(r"\$\{(\w+):\?", texts))
    assert compose("gpu", given)["services"].keys() == set(SERVICES["gpu"])
    assert compose("cpu", {"GRAFANA_ADMIN_PASSWORD": "x"})["services"].keys() == set(SERVICES["cpu"])
    with pytest.raises(KeyError):
        compose("gpu", {})


def test_the_dockerfile_copies_what_is_there_and_builds_what_is_asked() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE))
    assert set(re.findall(r"--from=(\S+)", dockerfile)) <= stages
    for each in (service("gateway"), service("trainer"), service("engine", "cpu")):
        build = each["build"]
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
    """But for TLS, which the server in the wheel was built without, and the users: test_redis.py has both."""
    program, server = service("redis")["command"], find_server()
    assert program[0] == "redis-server" and server is not None
    pairs = dict(zip(program[1::2], program[2::2], strict=True))
    port = free_port()
    pairs = {name: value for name, value in pairs.items() if "tls" not in name and name != "--aclfile"}
    words = [word for pair in (pairs | {"--port": str(port)}).items() for word in pair]
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


def _checked(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        *map(str, files),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _mounts(name: str, kind: str = "gpu") -> Iterator[list[str]]:
    yield from (volume.split(":") for volume in service(name, kind).get("volumes", ()))


def _mounted(volume: str, kind: str) -> dict[str, Any]:
    """Where each service has a named volume, and how."""
    return {name: rest for name in SERVICES[kind] for source, *rest in _mounts(name, kind) if source == volume}


def _port(url: str) -> int | None:
    return urlsplit(url).port
