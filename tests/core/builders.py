"""What tests of the core are made of: a small cluster, its VMs, operations in any state.

Every builder gives something ordinary; a test says only what is special about its story. The
ordinary cluster has three equal hosts, h1 to h3, one network and one datastore whose sharing and
locking are proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import settings

from furlough.core.affinity import Rule
from furlough.core.capacity import Load
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Cluster, Datastore, Disk, Host, Inventory, Nic, Proof, Vm
from furlough.core.journal import Event, OperationAccepted, OperationClaimed, apply
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Attempt, Failure, Operation, Outcome, RosterEntry, Step
from furlough.core.plan import (
    NO_LOAD,
    Before,
    Handover,
    Method,
    OperationKind,
    Plan,
    PlannedStep,
)
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
    ClusterPolicy,
    EnterOptions,
    ExitOptions,
    Options,
    Reserve,
)
from furlough.core.probe import Link, Probe, Reach
from furlough.core.states import Guard, HostMode, OperationState, Power, Reachability, StepState
from furlough.core.vm_policy import DEFAULT, VmPolicy

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
C1, C2 = ClusterName("c1"), ClusterName("c2")
H1, H2, H3, H4 = (HostName(f"h{number}") for number in range(1, 5))
OPERATION = OperationId("op-7")
LAN, STORE, CPU = "lan", "images", "EPYC"

# Properties are checked on the same examples in every run.
repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def later(seconds: float) -> datetime:
    """So many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def load(memory_mib: int, vcpus: int = 1) -> Load:
    """A load, in the order in which people say it."""
    return Load(memory_mib=memory_mib, vcpus=vcpus)


# --- facts -------------------------------------------------------------------------------------


def vm_id(number: int) -> VmId:
    """The UUID of VM `number`."""
    return VmId(f"00000000-0000-4000-8000-{number:012d}")


def a_cluster(
    name: ClusterName = C1,
    *,
    memory_ceiling: float = 1.0,
    vcpu_overcommit: float = 4.0,
    max_hosts_away: int = 1,
    trusts_own_proofs: bool = False,
    reserve: Reserve = Reserve.NONE,
    severity: Mapping[str, str] | None = None,
    rules: Iterable[Rule] = (),
    overflow: Iterable[ClusterName] = (),
) -> Cluster:
    """A cluster that lets VMs fill its hosts, one host away at a time."""
    policy = ClusterPolicy(
        memory_ceiling=memory_ceiling,
        vcpu_overcommit=vcpu_overcommit,
        max_hosts_away=max_hosts_away,
        trusts_own_proofs=trusts_own_proofs,
        reserve=reserve,
        severity=tuple((severity or {}).items()),
        overflow_clusters=tuple(overflow),
    )
    return Cluster(name=name, policy=policy, rules=tuple(rules))


def a_host(
    name: HostName = H1,
    *,
    cluster: ClusterName = C1,
    mode: HostMode = HostMode.AVAILABLE,
    silent_because: str = "",
    guard: Guard = Guard.LOWERED,
    has_guard: bool = True,
    operation: OperationId | None = None,
    cpus: int = 16,
    memory_mib: int = 65536,
    reserved_memory_mib: int = 0,
    cpu_models: Iterable[str] = (CPU,),
    networks: Iterable[str] = (LAN,),
    datastores: Iterable[str] = (STORE,),
    devices: Iterable[str] = (),
    link_mbit_s: int = 10_000,
) -> Host:
    """An available host with 64 GiB and 16 processors; silent if there is a reason to be."""
    return Host(
        name=name,
        uuid=f"uuid-of-{name}",
        cluster=cluster,
        mode=mode,
        reachability=Reachability.SILENT if silent_because else Reachability.CONNECTED,
        silent_because=silent_because,
        guard=guard,
        has_guard=has_guard,
        operation=operation,
        cpus=cpus,
        memory_mib=memory_mib,
        reserved_memory_mib=reserved_memory_mib,
        cpu_models=frozenset(cpu_models),
        networks=frozenset(networks),
        datastores=frozenset(datastores),
        devices=frozenset(devices),
        link_mbit_s=link_mbit_s,
    )


def a_probe(
    *,
    at: datetime = NOW,
    peers: Mapping[HostName, Reach] | None = None,
    clock_offset_s: float | None = 0.0,
    repairs: Iterable[str] = (),
    link: Link | None = None,
    starts_guests_at_boot: bool = False,
    bmc_answers: bool | None = None,
    open_ports: Iterable[str] = (),
    troubles: Iterable[str] = (),
) -> Probe:
    """A probe that has found nothing worth a word."""
    return Probe(
        at=at,
        clock_offset_s=clock_offset_s,
        repairs=tuple(repairs),
        peers=peers or {},
        link=link,
        starts_guests_at_boot=starts_guests_at_boot,
        bmc_answers=bmc_answers,
        open_ports=tuple(open_ports),
        troubles=tuple(troubles),
    )


def a_disk(target: str = "vda", *, datastore: str | None = STORE, is_writable: bool = True) -> Disk:
    """A disk on the proven datastore."""
    return Disk(
        target=target,
        source=f"/srv/images/{target}.qcow2",
        datastore=datastore,
        is_writable=is_writable,
    )


def a_vm(
    number: int = 1,
    *,
    name: str = "",
    host: HostName = H1,
    power: Power = Power.RUNNING,
    vcpus: int = 2,
    memory_mib: int = 4096,
    memory_used_mib: int | None = None,
    cpu_model: str | None = CPU,
    disks: Iterable[Disk] | None = None,
    networks: Iterable[str] = (LAN,),
    devices: Iterable[str] = (),
    is_persistent: bool = True,
    has_autostart: bool = False,
    busy_with: str = "",
    is_arriving: bool = False,
    dirty_mib_s: float | None = None,
    working_set_mib: int | None = None,
    policy: VmPolicy = DEFAULT,
) -> Vm:
    """A running VM of 4 GiB with one disk and one network interface."""
    return Vm(
        id=vm_id(number),
        name=name or f"vm{number}",
        host=host,
        power=power,
        vcpus=vcpus,
        memory_mib=memory_mib,
        memory_used_mib=memory_used_mib,
        cpu_model=cpu_model,
        disks=(a_disk(),) if disks is None else tuple(disks),
        nics=tuple(Nic(network=network) for network in networks),
        devices=tuple(devices),
        is_persistent=is_persistent,
        has_autostart=has_autostart,
        busy_with=busy_with,
        is_arriving=is_arriving,
        dirty_mib_s=dirty_mib_s,
        working_set_mib=working_set_mib,
        policy=policy,
    )


def a_datastore(
    name: str = STORE, *, shared: Proof = Proof.PROVEN, locked: Proof = Proof.PROVEN
) -> Datastore:
    """A datastore about which both proofs hold."""
    return Datastore(name=name, shared=shared, locked=locked)


def an_inventory(
    vms: Iterable[Vm] = (),
    *,
    hosts: Iterable[Host] | None = None,
    clusters: Iterable[Cluster] | None = None,
    datastores: Iterable[Datastore] | None = None,
) -> Inventory:
    """These VMs on the ordinary cluster, or on these hosts."""
    return Inventory(
        taken_at=NOW,
        clusters=[a_cluster()] if clusters is None else list(clusters),
        hosts=[a_host(name) for name in (H1, H2, H3)] if hosts is None else list(hosts),
        vms=list(vms),
        datastores=[a_datastore()] if datastores is None else list(datastores),
    )


# --- what hosts say about one VM ---------------------------------------------------------------


def a_look(
    presence: Presence,
    why: Why = Why.UNKNOWN,
    *,
    host: HostName = H1,
    job: Job = Job.NONE,
    has_process: bool | None = None,
    is_persistent: bool | None = None,
    at: datetime = NOW,
) -> Look:
    """A look as a host gives it: an active VM has a process, a VM that is off a definition."""
    active = presence in (Presence.RUNNING, Presence.PAUSED)
    known = active or presence is Presence.SHUT_OFF
    return Look(
        host=host,
        at=at,
        presence=presence,
        why=why,
        job=job,
        has_process=active if has_process is None else has_process,
        is_persistent=known if is_persistent is None else is_persistent,
    )


# --- plans and operations ----------------------------------------------------------------------

_ABOUT_A_HOST = (Method.RAISE_GUARD, Method.CONFIRM_EMPTY, Method.LOWER_GUARD)
_WAVES = {Method.RAISE_GUARD: 0, Method.CONFIRM_EMPTY: 2, Method.LOWER_GUARD: 2}


def planned(
    number: int,
    method: Method = Method.LIVE,
    host: HostName = H1,
    *,
    wave: int | None = None,
    vm: VmId | None = None,
    source: HostName = H1,
    targets: Sequence[HostName] = (H2, H3),
    handover: Handover = Handover.NORMAL,
    sent_mib: int = 0,
    power: Power = Power.RUNNING,
    admit: Sequence[VmId] = (),
) -> PlannedStep:
    """A planned step, in the wave that its method has in plans. Steps about a VM are about the
    VM of the same number, if nothing else is said."""
    about_vm = method not in _ABOUT_A_HOST
    which = (vm or vm_id(number)) if about_vm else None
    return PlannedStep(
        number=number,
        method=method,
        host=host,
        wave=_WAVES.get(method, 1) if wave is None else wave,
        vm=which,
        vm_name=f"vm{int(which[-12:])}" if which else "",
        source=source if about_vm else None,
        targets=tuple(targets) if method in (Method.LIVE, Method.START) else (),
        handover=handover,
        load=load(4096, 2) if about_vm else load(0, 0),
        before=Before(power=power),
        admit=tuple(admit),
        sent_mib=sent_mib,
    )


def a_failure(code: str = "hypervisor.failed", *, remedy: str = "") -> Failure:
    """Why an attempt failed."""
    return Failure(code=code, message="It did not work.", remedy=remedy)


def an_attempt(
    target: HostName | None = H2,
    *,
    failure: Failure | None = None,
    counts: bool = True,
    started_at: datetime = NOW,
) -> Attempt:
    """One try, over if it failed."""
    return Attempt(
        target=target,
        epoch=1,
        started_at=started_at,
        ended_at=None if failure is None else started_at,
        failure=failure,
        counts=counts,
    )


def a_step(
    plan: PlannedStep,
    state: StepState = StepState.PENDING,
    *,
    outcome: Outcome = Outcome.PENDING,
    attempts: Sequence[Attempt] | None = None,
    failure: Failure | None = None,
    not_before: datetime | None = None,
    ended_at: datetime | None = None,
    sent_mib: int | None = None,
) -> Step:
    """A step in some state. One that has begun has an attempt; one that failed says why."""
    if failure is None and state is StepState.FAILED:
        failure = a_failure()
    if attempts is None:
        begun = state in (StepState.STARTED, StepState.SUCCEEDED, StepState.FAILED)
        target = plan.targets[0] if plan.targets else None
        attempts = (an_attempt(target, failure=failure),) if begun else ()
    return Step(
        planned=plan,
        operation=OPERATION,
        state=state,
        outcome=outcome,
        attempts=tuple(attempts),
        failure=failure,
        not_before=not_before,
        ended_at=ended_at,
        sent_mib=sent_mib,
    )


def a_plan(
    *steps: PlannedStep,
    kind: OperationKind = OperationKind.ENTER,
    hosts: Sequence[HostName] = (H1,),
) -> Plan:
    """A plan made of these steps."""
    return Plan(kind=kind, hosts=tuple(hosts), steps=steps, load_after=NO_LOAD)


def an_operation(
    *steps: Step,
    kind: OperationKind = OperationKind.ENTER,
    hosts: Sequence[HostName] = (H1,),
    state: OperationState = OperationState.RUNNING,
    cancel: CancelMode | None = None,
    has_timed_out: bool = False,
    deadline: datetime | None = None,
    started_at: datetime | None = NOW,
    plan: Plan | None = None,
    roster: Sequence[RosterEntry] | None = None,
) -> Operation:
    """An operation made of these steps, running if nothing else is said."""
    if plan is None:
        plan = a_plan(*(step.planned for step in steps), kind=kind, hosts=hosts)
    return Operation(
        id=OPERATION,
        kind=kind,
        hosts=tuple(hosts),
        options=_options_for(kind),
        plan=plan,
        requested_by="ann",
        created_at=NOW,
        started_at=started_at,
        state=state,
        steps=steps,
        roster=roster_of(plan) if roster is None else tuple(roster),
        cancel=cancel,
        has_timed_out=has_timed_out,
        deadline=deadline,
        events=1,
    )


def roster_of(plan: Plan) -> tuple[RosterEntry, ...]:
    """Every VM of a plan, as its steps found it."""
    return tuple(
        RosterEntry(vm=step.vm, name=step.vm_name, host=step.source, before=step.before)
        for step in plan.steps
        if step.vm is not None and step.source is not None
    )


def accepted(plan: Plan, *, deadline: datetime | None = None) -> OperationAccepted:
    """The first event of an operation that carries out this plan."""
    return OperationAccepted(
        operation_kind=plan.kind,
        hosts=plan.hosts,
        options=_options_for(plan.kind),
        plan=plan,
        roster=roster_of(plan),
        requested_by="ann",
        deadline=deadline,
    )


def queued(plan: Plan) -> Operation:
    """An operation that nobody has taken up yet."""
    return apply(None, OPERATION, accepted(plan), NOW)


def running(plan: Plan) -> Operation:
    """An operation that its first owner has just taken up."""
    return after(queued(plan), OperationClaimed(owner="first", epoch=1))


def after(operation: Operation, *events: Event, at: datetime = NOW) -> Operation:
    """The operation after these events."""
    for event in events:
        operation = apply(operation, operation.id, event, at)
    return operation


def _options_for(kind: OperationKind) -> Options:
    if kind is OperationKind.ENTER:
        return EnterOptions()
    return ExitOptions() if kind is OperationKind.EXIT else ActionOptions()
