"""Listening sockets that outlive those who accept from them."""

from __future__ import annotations

import socket

import pytest

from free_ports import free_port
from penstock.app.addresses import Address
from penstock.app.listen import check_port, listeners
from penstock.kit.errors import Unavailable


def free_address() -> Address:
    return Address("127.0.0.1", free_port())


def test_several_share_an_address_and_connections_wait_though_nobody_accepts() -> None:
    address = free_address()
    held = listeners("GATEWAY", address, 3)
    try:
        clients = [socket.create_connection(address, timeout=20) for _ in range(50)]
        for client in clients:
            client.close()
    finally:
        for each in held:
            each.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20)


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_another_platform_shares_among_its_workers_is_taken(count: int) -> None:
    address = free_address()
    held = listeners("GATEWAY", address, 2)
    try:
        with pytest.raises(Unavailable, match=f"port {address.port} is taken by another program") as caught:
            listeners("GATEWAY", address, count)
        assert f"PENSTOCK_GATEWAY_ADDR=127.0.0.1:{address.port + 10}" in caught.value.hint
    finally:
        for each in held:
            each.close()


def test_an_address_of_another_machine_cannot_be_listened_at() -> None:
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1:8080: Cannot assign"):
        check_port("API", Address("192.0.2.1", 8080))
