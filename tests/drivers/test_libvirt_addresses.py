"""SEC-12: a libvirt URI is built from enrolled parts, and nothing in a part becomes more."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.enrolment import EnrolledHost, Transport
from furlough.core.ids import ClusterName, HostName
from furlough.drivers.libvirt.addresses import (
    certificate_name,
    control_uri,
    migration_uri,
    peer_uri,
)
from furlough.errors import Invalid

HOST = EnrolledHost(name=HostName("h1"), cluster=ClusterName("c1"), address="10.0.0.1")
BUILDERS = (control_uri, peer_uri, migration_uri)


@pytest.mark.parametrize(
    ("host", "uri"),
    [
        (HOST, "qemu+ssh://root@10.0.0.1/system"),
        (replace(HOST, user="furlough"), "qemu+ssh://furlough@10.0.0.1/system"),
        (replace(HOST, transport=Transport.TLS), "qemu+tls://10.0.0.1/system"),
        (replace(HOST, transport=Transport.TCP), "qemu+tcp://10.0.0.1/system"),
        (replace(HOST, transport=Transport.LOCAL), "qemu:///system"),
        (
            replace(HOST, transport=Transport.TLS, address="node-1.example.org"),
            "qemu+tls://node-1.example.org/system",
        ),
        (
            replace(HOST, transport=Transport.TCP, address="2001:db8::17"),
            "qemu+tcp://[2001:db8::17]/system",
        ),
    ],
)
def test_each_transport_has_its_uri(host: EnrolledHost, uri: str) -> None:
    assert control_uri(host) == uri


def test_another_hosts_daemon_is_never_sent_to_its_own_socket() -> None:
    local = replace(HOST, transport=Transport.LOCAL)
    assert peer_uri(local) == "qemu+ssh://root@10.0.0.1/system"


@pytest.mark.parametrize("transport", [Transport.SSH, Transport.TLS, Transport.TCP])
def test_peers_take_the_way_that_we_take(transport: Transport) -> None:
    host = replace(HOST, transport=transport)
    assert peer_uri(host) == control_uri(host)


def test_memory_goes_to_the_migration_address_where_there_is_one() -> None:
    assert migration_uri(HOST) == "tcp://10.0.0.1"
    assert migration_uri(replace(HOST, migration_address="192.168.7.1")) == "tcp://192.168.7.1"
    assert migration_uri(replace(HOST, migration_address="2001:db8::9")) == "tcp://[2001:db8::9]"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "h1"),
        ({"migration_address": "2001:db8::9"}, "h1"),
        ({"address": "h1.example.org"}, "h1.example.org"),
        ({"migration_address": "h1-mig.example.org"}, "h1-mig.example.org"),
        ({"migration_address": "192.168.7.1", "tls_name": "mig1"}, "mig1"),
        ({"tls_name": "10.0.0.1"}, "10.0.0.1"),
    ],
)
def test_a_certificate_bears_the_name_that_is_enrolled_or_that_memory_is_sent_to(
    changes: dict[str, str], name: str
) -> None:
    assert certificate_name(replace(HOST, **changes)) == name  # type: ignore[arg-type]


HOSTILE = (
    "h1?command=touch",
    "h1/system?socket=/tmp/x",
    "h1#x",
    "user@h1",
    "h1:16509",
    "-oProxyCommand=x",
    "h1\n",
    "h1 ",
    "[::1]",
    "%68ost",
    "host%3fcommand=x",
    "fe80::1%x]?command=touch",
    "fe80::1%eth0?netcat=x",
    "fe80::1%eth0@evil",
    "",
)


@pytest.mark.parametrize("address", HOSTILE)
@pytest.mark.parametrize("build", BUILDERS)
def test_an_address_that_says_more_than_where_is_refused(build: object, address: str) -> None:
    assert callable(build)
    with pytest.raises(Invalid):
        build(replace(HOST, address=address, migration_address=address))


@pytest.mark.parametrize("user", ["root:x", "root@evil", "", "-l", "Root", "r oot", "root\n"])
def test_a_user_that_is_no_user_name_is_refused(user: str) -> None:
    with pytest.raises(Invalid):
        control_uri(replace(HOST, user=user))


def test_a_local_host_is_looked_at_as_any_other() -> None:
    with pytest.raises(Invalid):
        control_uri(replace(HOST, transport=Transport.LOCAL, address="h1?command=x"))


_TEXT = st.text(st.sampled_from("abz019.:-%[]@/?#=&~+ \n\\\"'é\0"), max_size=24)


@given(address=_TEXT, user=_TEXT, transport=st.sampled_from(Transport))
def test_whatever_is_accepted_names_a_place_and_nothing_else(
    address: str, user: str, transport: Transport
) -> None:
    host = replace(HOST, address=address, user=user, transport=transport)
    try:
        uris = [build(host) for build in BUILDERS]
    except Invalid:
        return
    for uri in uris:
        parts = urlsplit(uri)
        assert (parts.query, parts.fragment, parts.port, parts.password) == ("", "", None, None)
        assert parts.path == ("" if uri.startswith("tcp:") else "/system")
        assert uri.isascii()
        assert uri.isprintable()
        assert "?" not in uri
