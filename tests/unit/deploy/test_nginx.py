"""`deploy/nginx/thinktwice.conf` holds the limits of the gateway, and lets nothing through that it drops."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.http.connection import MAX_HEAD_BYTES
from gateway.http.openapi import document
from gateway.http.server import KEEP_ALIVE_S
from router.settings import ServerSection

TEXT = (Path(__file__).parents[3] / "deploy" / "nginx" / "thinktwice.conf").read_text()
SERVER = ServerSection()


def value(directive: str) -> str:
    [found] = re.findall(rf"^\s*{directive} ([^;]+);", TEXT, re.MULTILINE)
    return str(found)


def seconds(directive: str) -> float:
    return float(value(directive).removesuffix("s"))


def test_limits_are_those_of_the_gateway() -> None:
    count, size = value("large_client_header_buffers").split()
    assert int(count) * int(size.removesuffix("k")) * 1024 == MAX_HEAD_BYTES
    assert int(value("client_max_body_size").removesuffix("m")) * 1024 * 1024 == SERVER.max_body_bytes
    for directive in ("client_header_timeout", "client_body_timeout", "send_timeout"):
        assert seconds(directive) == SERVER.slow_client_s
    assert seconds("proxy_read_timeout") > SERVER.deadline_s
    assert seconds("keepalive_timeout") < KEEP_ALIVE_S
    assert f"server {SERVER.host}:{SERVER.port};" in TEXT


def test_what_is_served_is_what_is_routed() -> None:
    [pattern] = re.findall(r"location ~ (\S+) \{", TEXT)
    closed = re.findall(r"location = (\S+) \{ return 404; \}", TEXT)
    for path in document()["paths"]:
        assert (re.match(pattern, path) is None) == (path in closed), path


def test_no_header_of_the_path_comes_from_the_client() -> None:
    for name in ("Connection", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP"):
        assert f'proxy_set_header {name} "";' in TEXT
