"""Who listens where, and who may reach whom: decisions only, no container."""

from __future__ import annotations

import errno
import ipaddress
import socket

import pytest

from dockerlab.engine.isolate.spec import Published
from dockerlab.engine.isolate.switch import PASS, Endpoint, Route, Switch
from dockerlab.engine.refusals import RefusalError

ANY = ipaddress.ip_address("0.0.0.0")
ANY6 = ipaddress.ip_address("::")
LO = ipaddress.ip_address("127.0.0.1")
LO6 = ipaddress.ip_address("::1")
FAR = ipaddress.ip_address("192.0.2.7")


@pytest.fixture
def switch():
    made = Switch()
    yield made
    for container in list(made._endpoints):
        made.detach(container)


def attach(switch, name, *published, **more):
    endpoint = Endpoint(name, **more)
    switch.attach(endpoint, tuple(published))
    return endpoint


def listen(switch, endpoint, address, port, protocol="tcp"):
    given = switch.listen(endpoint, address, port, protocol)
    if isinstance(given, socket.socket):
        name = given.getsockname()
        if protocol == "tcp":
            given.listen()
        return given, name
    return None, given


def test_two_containers_listen_on_the_same_port_and_each_is_reached_by_its_own(switch):
    one = attach(switch, "one", Published(80))
    two = attach(switch, "two", Published(80))
    first, name1 = listen(switch, one, ANY, 80)
    second, name2 = listen(switch, two, ANY6, 80)
    with first, second:
        assert name1 == one.published[80, "tcp"]
        assert name2 == two.published[80, "tcp"]
        assert name1[0] == name2[0] == "127.0.0.1"
        assert name1[1] != name2[1]
        assert switch.route(one, LO, 80, "tcp") == Route(name1)
        assert switch.route(two, LO6, 80, "tcp") == Route(name2)


def test_a_port_that_is_not_published_is_a_port_of_this_machine_that_nobody_is_told(switch):
    one = attach(switch, "one")
    made, name = listen(switch, one, ANY, 8080)
    with made:
        assert name[0] == "127.0.0.1"
        assert one.published == {}
        assert switch.route(one, LO, 8080, "tcp") == Route(name)


def test_what_listens_on_the_containers_own_loopback_is_not_published(switch):
    one = attach(switch, "one", Published(80))
    made, name = listen(switch, one, LO, 80)
    with made:
        assert name != one.published[80, "tcp"]


def test_the_same_port_twice_in_one_container_is_in_use(switch):
    one = attach(switch, "one", Published(80))
    made, _ = listen(switch, one, ANY, 80)
    with made:
        assert listen(switch, one, ANY, 80) == (None, errno.EADDRINUSE)
    again, name = listen(switch, one, ANY, 80)  # the server was started anew
    with again:
        assert name == one.published[80, "tcp"]


def test_a_published_port_refuses_until_the_container_listens(switch):
    one = attach(switch, "one", Published(80))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(one.published[80, "tcp"])


def test_containers_of_one_network_reach_each_other_and_others_do_not(switch):
    one = attach(switch, "one", network="shop", addresses=("172.18.0.2",))
    two = attach(switch, "two", network="shop", addresses=("172.18.0.3",))
    other = attach(switch, "other", network="bank", addresses=("172.19.0.2",))
    address = ipaddress.ip_address("172.18.0.3")
    assert switch.route(one, address, 80, "tcp").error == errno.ECONNREFUSED
    made, name = listen(switch, two, ANY, 80)
    private, _ = listen(switch, two, LO, 81)
    with made, private:
        assert switch.route(one, address, 80, "tcp") == Route(name)
        assert switch.route(one, address, 81, "tcp").error == errno.ECONNREFUSED
        assert switch.route(other, address, 80, "tcp").error == errno.EHOSTUNREACH
        switch.join("other", ("172.19.0.2", "172.18.0.4"))
        assert switch.route(other, address, 80, "tcp") == Route(name)


def test_loopback_of_this_machine_is_not_the_containers(switch):
    shared = attach(switch, "shared")
    apart = attach(switch, "apart", apart=True)
    assert switch.route(shared, LO, 22, "tcp").error == errno.ECONNREFUSED
    assert switch.route(apart, LO, 22, "tcp") == PASS  # its own, empty loopback


def test_the_way_out(switch):
    shared = attach(switch, "shared")
    apart = attach(switch, "apart", apart=True)
    none = attach(switch, "none", network="none")
    assert switch.route(shared, FAR, 443, "tcp") == PASS
    assert switch.route(apart, FAR, 443, "tcp") == Route(("192.0.2.7", 443))
    assert switch.route(none, FAR, 443, "tcp").error == errno.ENETUNREACH


def test_a_port_that_is_taken_is_said_in_dockers_words_and_nothing_stays(switch):
    one = attach(switch, "one", Published(80))
    port = one.published[80, "tcp"][1]
    with pytest.raises(RefusalError, match="port is already allocated") as raised:
        attach(switch, "two", Published(81), Published(80, host_port=port))
    assert raised.value.status == 500
    assert list(switch._endpoints) == ["one"]
    switch.detach("one")
    attach(switch, "three", Published(80, host_port=port))


def test_a_port_that_a_stranger_holds_is_taken(switch):
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(RefusalError, match="already allocated"):
        attach(switch, "one", Published(80, host_port=stranger.getsockname()[1]))


@pytest.mark.parametrize("host", ["192.0.2.1", "8.8.8.8", "::1", "nonsense"])
def test_ports_are_published_on_loopback_only(switch, host):
    with pytest.raises(RefusalError) as raised:
        attach(switch, "one", Published(80, host_ip=host))
    assert raised.value.status == 400
    assert not switch._endpoints


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "127.0.0.1", "127.3.2.1"])
def test_everywhere_means_loopback(switch, host):
    one = attach(switch, "one", Published(80, host_ip=host))
    assert one.published[80, "tcp"][0].startswith("127.")


def test_datagrams(switch):
    one = attach(switch, "one", Published(53, "udp"), apart=True)
    made, name = listen(switch, one, ANY, 53, "udp")
    with made:
        assert name == one.published[53, "udp"]
    client, _ = listen(switch, one, ANY, 0, "udp")  # looks a name up
    client.close()
