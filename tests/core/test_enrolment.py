"""Enrolment: what the operator tells us goes into URIs and command lines, so it is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Program,
    bmc_of,
    certified_name,
    check_address,
    check_datastore,
    check_host,
    facts_of,
    users_of,
)
from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Datastore, Proof
from furlough.errors import Invalid, NotFound
from tests.core.builders import C1, C2, H1, H2, H3, a_cluster, repeatable

HOST = EnrolledHost(name=H1, cluster=C1, address="10.0.0.1")
DIRECTORY = EnrolledDatastore(
    name="images", cluster=C1, kind=DatastoreKind.DIRECTORY, path="/srv/images"
)
SERVER = EnrolledDatastore(
    name="nbd", cluster=C1, kind=DatastoreKind.NBD, address="store.example.org"
)


# --- addresses (SEC-11, SEC-12, SEC-13) --------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::17", "2001:db8::17"),
        ("2001:0DB8:0000::0017", "2001:db8::17"),
        ("::1", "::1"),
        ("node-1", "node-1"),
        ("node-1.example.org", "node-1.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_ip_addresses_of_both_kinds_and_dns_names_are_accepted(typed: str, kept: str) -> None:
    assert check_address(typed, what="host h1") == kept


BAD_ADDRESSES = [
    "",
    " ",
    "-oProxyCommand=x",
    "a b",
    "host?command=x",
    "host#x",
    "../x",
    "/etc/passwd",
    "host/system",
    "user@host",
    "host:22",
    "qemu+ssh://host/system",
    "[::1]",
    "[2001:db8::17]:22",
    ".example.org",
    "example.org.",
    "host\n",
    "host\x00",
    "$(id)",
    "`id`",
    "a;b",
    "a&b",
    "a%20b",
    "bücher.example",
    "a.b." * 75,
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_what_could_be_an_option_a_path_a_uri_or_a_command_is_no_address(address: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_address(address, what="host h1")
    assert refusal.value.code == "address.malformed"
    assert repr(address) in refusal.value.message
    assert "host h1" in refusal.value.message
    assert "without scheme, port or path" in refusal.value.remedy


def test_no_name_may_be_longer_than_dns_allows() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert check_address(longest, what="host h1") == longest
    with pytest.raises(Invalid):
        check_address("c" + longest, what="host h1")
    with pytest.raises(Invalid):
        check_address("a" * 300, what="host h1")


# Up to 12 characters: see the marked test about names that take for ever.
@repeatable
@given(st.text(alphabet=st.characters(exclude_characters="%"), max_size=12))
def test_whatever_passes_as_an_address_has_nothing_in_it_that_a_uri_or_a_shell_would_read(
    text: str,
) -> None:
    try:
        address = check_address(text, what="host h1")
    except Invalid:
        return
    assert all(one.isascii() and (one.isalnum() or one in ".-:") for one in address)
    assert not address.startswith(("-", "."))


# --- hosts -------------------------------------------------------------------------------------


def test_an_ordinary_host_is_kept_as_it_is() -> None:
    host = replace(HOST, migration_address="2001:db8::1", user="furlough")
    assert check_host(host) is host


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "host?command=x", "../x", ""])
def test_a_host_is_refused_for_its_address(address: str) -> None:
    with pytest.raises(Invalid, match="no address for host h1"):
        check_host(replace(HOST, address=address))


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b"])
def test_a_host_is_refused_for_the_address_that_migrations_would_go_to(address: str) -> None:
    with pytest.raises(Invalid, match="no address for migrations to host h1"):
        check_host(replace(HOST, migration_address=address))


@pytest.mark.parametrize(
    ("bmc", "place"),
    [
        ("10.0.0.9", ("10.0.0.9", 443)),
        ("10.0.0.9:8443", ("10.0.0.9", 8443)),
        ("bmc-h1.example.org:65535", ("bmc-h1.example.org", 65535)),
        ("2001:db8::9", ("2001:db8::9", 443)),
        ("[2001:db8::9]:623", ("2001:db8::9", 623)),
    ],
)
def test_a_management_controller_is_an_address_and_perhaps_a_port(
    bmc: str, place: tuple[str, int]
) -> None:
    host = replace(HOST, bmc=bmc)
    assert check_host(host) is host
    assert bmc_of(host) == place


@pytest.mark.parametrize(
    ("bmc", "code"),
    [
        ("10.0.0.9:0", "host.bmc"),
        ("10.0.0.9:65536", "host.bmc"),
        (":443", "address.malformed"),
        ("https://10.0.0.9", "address.malformed"),
        ("10.0.0.9:443/redfish", "address.malformed"),
        ("-x", "address.malformed"),
    ],
)
def test_a_management_controller_that_is_neither_is_refused(bmc: str, code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_host(replace(HOST, bmc=bmc))
    assert refusal.value.code == code
    assert "h1" in refusal.value.message


@pytest.mark.parametrize("user", ["", "-l", "root@other", "a b", "Root", "x" * 33, "root\n"])
def test_a_user_name_that_is_none_is_refused_and_the_host_is_named(user: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_host(replace(HOST, user=user))
    assert refusal.value.code == "host.user"
    assert "host h1" in refusal.value.message


@pytest.mark.parametrize(
    "namespace", ["", "lab", "lab/", "/h1", "lab/h1/x", "../h1", "-lab/h1", "Lab/H1", "lab/h1\n"]
)
def test_a_lab_host_needs_the_name_of_its_lab_and_its_own(namespace: str) -> None:
    host = replace(HOST, program=Program.NAMESPACE, namespace=namespace)
    with pytest.raises(Invalid) as refusal:
        check_host(host)
    assert refusal.value.code == "host.namespace"
    assert "furlough lab up" in refusal.value.remedy


def test_a_lab_host_with_both_names_is_accepted_and_other_hosts_need_none() -> None:
    for host in (
        replace(HOST, program=Program.LOCAL, namespace=""),
        replace(HOST, program=Program.NAMESPACE, namespace="lab/h1"),
    ):
        assert check_host(host) is host


# --- datastores --------------------------------------------------------------------------------


def test_ordinary_datastores_are_kept_as_they_are() -> None:
    assert check_datastore(DIRECTORY) is DIRECTORY
    assert check_datastore(SERVER) is SERVER


@pytest.mark.parametrize("path", ["", "srv/images", "/", "/srv/../etc", "..", "/srv/images/.."])
def test_a_directory_is_an_absolute_path_that_leads_nowhere_else(path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_datastore(replace(DIRECTORY, path=path))
    assert refusal.value.code == "datastore.path"
    assert "datastore images" in refusal.value.message


@pytest.mark.parametrize(
    "kind", [one for one in DatastoreKind if one is not DatastoreKind.DIRECTORY]
)
def test_a_server_of_disks_needs_an_address(kind: DatastoreKind) -> None:
    with pytest.raises(Invalid, match="no address for datastore nbd"):
        check_datastore(replace(SERVER, kind=kind, address="host?command=x"))


@pytest.mark.parametrize(
    "declared",
    [replace(DIRECTORY, shared=Proof.DECLARED), replace(DIRECTORY, locked=Proof.DECLARED)],
)
def test_who_declares_what_was_not_proven_has_to_say_how_he_knows(
    declared: EnrolledDatastore,
) -> None:
    with pytest.raises(Invalid) as refusal:
        check_datastore(declared)
    assert refusal.value.code == "datastore.reason"
    explained = replace(declared, reason="NFS 4.1, see ticket 12")
    assert check_datastore(explained) is explained


def test_what_was_proven_needs_no_reason() -> None:
    proven = replace(DIRECTORY, shared=Proof.PROVEN, locked=Proof.PROVEN)
    assert check_datastore(proven) is proven


@pytest.mark.parametrize(
    ("path", "is_held"),
    [
        ("/srv/images/vda.qcow2", True),
        ("/srv/images/deep/er/vda.qcow2", True),
        ("/srv/images", False),
        ("/srv/images-old/vda.qcow2", False),
        ("/var/lib/vda.qcow2", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("enrolled", ["/srv/images", "/srv/images/"])
def test_a_directory_holds_the_files_below_it_and_not_those_of_a_namesake(
    enrolled: str, path: str, is_held: bool
) -> None:
    assert replace(DIRECTORY, path=enrolled).holds(path=path) is is_held


@pytest.mark.parametrize(
    ("protocol", "address", "is_held"),
    [
        ("nbd", "store.example.org", True),
        ("nbd", "other.example.org", False),
        ("rbd", "store.example.org", False),
        ("", "", False),
    ],
)
def test_a_server_holds_the_disks_of_its_protocol_at_its_address(
    protocol: str, address: str, is_held: bool
) -> None:
    assert SERVER.holds(protocol=protocol, address=address) is is_held


def test_a_server_holds_no_file() -> None:
    assert not SERVER.holds(path="/srv/images/vda.qcow2")


_PROVEN = replace(DIRECTORY, shared=Proof.PROVEN, locked=Proof.PROVEN, proven_on=(H1, H2))
_USERS = [replace(HOST, name=name, datastores=(DIRECTORY.name,)) for name in (H1, H2, H3)]


def test_planning_trusts_a_proof_in_which_every_host_that_lists_the_datastore_took_part() -> None:
    assert facts_of(_PROVEN, _USERS[:2]) == Datastore(
        name="images", path=DIRECTORY.path, shared=Proof.PROVEN, locked=Proof.PROVEN
    )
    assert facts_of(_PROVEN, _USERS[:1]).locked is Proof.PROVEN


def test_a_host_that_came_after_the_proof_may_see_something_else_so_the_proof_is_void() -> None:
    assert facts_of(_PROVEN, _USERS) == Datastore(name="images", path=DIRECTORY.path)


def test_a_host_that_does_not_list_the_datastore_does_not_matter_to_its_proof() -> None:
    other = replace(HOST, name=H3, datastores=("elsewhere",))
    assert users_of(_PROVEN, [*_USERS[:2], other]) == [H1, H2]
    assert facts_of(_PROVEN, [*_USERS[:2], other]).shared is Proof.PROVEN


def test_of_a_datastore_that_was_just_enrolled_nothing_is_known() -> None:
    assert facts_of(DIRECTORY, []) == Datastore(name="images", path=DIRECTORY.path)


def test_what_the_operator_declared_stays_declared_whatever_hosts_there_are() -> None:
    declared = replace(DIRECTORY, shared=Proof.DECLARED, locked=Proof.UNKNOWN, reason="NFS")
    assert facts_of(declared, _USERS).shared is Proof.DECLARED
    assert facts_of(declared, _USERS).locked is Proof.UNKNOWN


# --- look-ups ----------------------------------------------------------------------------------


def test_what_was_enrolled_is_found_by_name() -> None:
    other = replace(SERVER, name="far", cluster=C2)
    enrolment = Enrolment(
        clusters=[a_cluster(C1), a_cluster(C2)], hosts=[HOST], datastores=[SERVER, DIRECTORY, other]
    )
    assert enrolment.host(H1) is HOST
    assert enrolment.cluster(C2).name == C2
    assert [one.name for one in enrolment.datastores_of(C1)] == ["nbd", "images"]


def test_what_was_not_enrolled_is_named_in_the_refusal() -> None:
    with pytest.raises(NotFound, match=r"'h2'.*furlough host list"):
        Enrolment(hosts=[HOST]).host(H2)
    with pytest.raises(NotFound, match=r"'c9'.*furlough cluster list"):
        Enrolment().cluster(ClusterName("c9"))
    assert HostName("h1") == HOST.name


@pytest.mark.parametrize("address", ["::1%x?command=id", "::1%x]?command=id&y=[", "fe80::1%$(id)"])
def test_the_zone_of_an_ipv6_address_does_not_smuggle_anything_in(address: str) -> None:
    with pytest.raises(Invalid):
        check_address(address, what="host h1")


@pytest.mark.timeout(1, method="signal")
def test_a_name_that_is_wrong_only_at_its_end_is_refused_at_once() -> None:
    with pytest.raises(Invalid):
        check_address("a" * 60 + "!", what="host h1")


@pytest.mark.parametrize("address", ["a..b", "a.-b", "a-.b", "a-"])
def test_a_name_with_malformed_labels_is_refused(address: str) -> None:
    with pytest.raises(Invalid):
        check_address(address, what="host h1")


@pytest.mark.parametrize("path", ["//", "///", "/.", "/./"])
def test_the_root_directory_is_no_datastore_however_it_is_spelt(path: str) -> None:
    with pytest.raises(Invalid):
        check_datastore(replace(DIRECTORY, path=path))


def test_a_file_outside_the_directory_is_not_held_however_it_is_spelt() -> None:
    assert not DIRECTORY.holds(path="/srv/images/../../etc/shadow")


# --- certificates ----------------------------------------------------------------------------


def test_the_name_in_a_certificate_is_the_enrolled_one_or_that_which_memory_is_sent_to() -> None:
    assert certified_name(HOST) == H1
    assert certified_name(replace(HOST, address="h1.example.org")) == "h1.example.org"
    away = replace(HOST, address="h1.example.org", migration_address="192.168.7.1")
    assert certified_name(away) == H1
    assert certified_name(replace(away, tls_name="mig1.example.org")) == "mig1.example.org"


def test_a_name_in_a_certificate_is_looked_at_like_an_address() -> None:
    assert check_host(replace(HOST, tls_name="mig1.example.org")).tls_name == "mig1.example.org"
    with pytest.raises(Invalid, match="the certificate of host h1"):
        check_host(replace(HOST, tls_name="h1/system?no_verify=1"))
