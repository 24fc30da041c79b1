import socket
from pathlib import Path

import pytest
from fastapi import FastAPI

from gateway.commands.port import listener, reserved_port
from gateway.http.connection import ConnectionLimits
from gateway.http.drain import Drain
from gateway.http.server import DrainingServer
from router.cli import main
from router.errors import ConfigError


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What `thinktwice serve` says when it exits with 2; one line."""
    assert main(["serve", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("thinktwice: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_keys_it_binds_loopback_only(capsys: pytest.CaptureFixture[str], host: str) -> None:
    line = refusal(capsys, "--host", host)
    assert host in line and "--host 127.0.0.1" in line and "thinktwice keys create" in line


def test_keys_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "keys.json").write_text("{")
    assert "damaged" in refusal(capsys)


def test_a_host_must_be_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "use 127.0.0.1 or ::1" in refusal(capsys, "--host", "example.org")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[server", "not valid TOML"),
        ("[server]\nprot = 1\n", "unknown configuration key server.prot"),
        ("[server]\nport = 99999\n", "server.port"),
        ("[nonsense]\nx = 1\n", "nonsense"),
        ("[profiles.p]\nchecks = [{type = 'telepathy'}]\n", "profile p"),
        ("[profiles.p]\nsamples = {min = 4, max = 2}\n", "samples.min"),
    ],
)
def test_a_configuration_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: str, words: str
) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(config)
    assert words in refusal(capsys, "--config", str(file))


def test_a_configuration_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refusal(capsys, "--config", "nowhere.toml")


def test_a_state_directory_that_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert "set [state] dir" in refusal(capsys)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use(capsys: pytest.CaptureFixture[str], workers: str, shared: bool) -> None:
    """Another gateway's workers would share the port without a word: that is refused as well."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        line = refusal(capsys, "--port", port, "--workers", workers)
    assert f"127.0.0.1:{port}" in line and "another --port" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_worker_has_a_socket_on_the_one_port(host: str) -> None:
    with reserved_port(host, 0) as port:
        with listener(host, port) as first, listener(host, port) as second:
            assert {each.getsockname()[1] for each in (first, second)} == {port}
            with socket.create_connection((host, port)):
                pass
        with pytest.raises(ConfigError, match="another --port"), reserved_port(host, port):
            pass
        with pytest.raises(ConnectionRefusedError):  # what holds the port takes no connection
            socket.create_connection((host, port))


def test_idle_connections_outlive_those_of_clients_and_proxies() -> None:
    """nginx keeps those to its upstreams for 60 s."""
    server = DrainingServer(FastAPI(), Drain(), ConnectionLimits(connections=1, patience_s=1.0))
    assert server.config.timeout_keep_alive > 60
