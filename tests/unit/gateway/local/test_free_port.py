"""Ports for the processes that `up` starts."""

from __future__ import annotations

import socket

from gateway.local.children import free_port

FIRST_EPHEMERAL = 32_768  # Linux's default of net.ipv4.ip_local_port_range


def test_a_free_port_is_none_that_an_outgoing_connection_is_given() -> None:
    for _ in range(20):
        port = free_port()
        assert port < FIRST_EPHEMERAL
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
