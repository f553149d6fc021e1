"""How much a finding weighs: usually, by the policy of the cluster, for who asks, and once an
operator has accepted it.

    usual severity ─► cluster's severity ─► strict: blocker ─► override: warning, with the reason

A request that waits for VMs which cannot leave (on_failure wait), or that leaves the moving to
people (automation off), bears what keeps a VM where it is: a warning.

What policy has already made of a finding ("it will be shut down") is no longer at its usual
severity; only `strict` makes a blocker of it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from furlough.core.findings import CODES, Finding, Severity
from furlough.core.policy import Automation, ClusterPolicy, EnterOptions, OnFailure
from furlough.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What one cluster's policy and one request say about the weight of findings."""

    policy: ClusterPolicy
    options: EnterOptions

    def severity_of(self, code: str) -> Severity:
        """How much a code weighs that no override has touched."""
        usual = CODES[code].severity
        if code in self.options.strict:
            return Severity.BLOCKER
        said = dict(self.policy.severity).get(code)
        if said is None or not may_weigh(code, said):
            return usual
        return Severity(said)

    def _is_borne(self, code: str) -> bool:
        """Whether this request can live with a blocker: nobody is moved by us, or it waits."""
        if code in self.options.strict:
            return False
        if self.options.automation is Automation.OFF:
            return code.startswith("vm.") or code in _OF_OUR_MOVES
        return self.options.on_failure is OnFailure.WAIT and code in _KEEPS_A_VM

    def weigh(self, found: Finding) -> Finding:
        """The finding with its severity here."""
        is_usual = found.severity is CODES[found.code].severity
        if is_usual or found.code in self.options.strict:
            found = replace(found, severity=self.severity_of(found.code))
        if found.severity is Severity.BLOCKER and self._is_borne(found.code):
            found = replace(found, severity=Severity.WARNING)
        if found.severity is Severity.BLOCKER and found.code in self.options.override:
            words = f"{found.message.removesuffix('.')} (accepted: {self.options.reason})."
            return replace(found, severity=Severity.WARNING, message=words)
        return found


# What keeps a VM from leaving, and nothing else of it: an operation that waits for such VMs may be
# asked for all the same.
_KEEPS_A_VM = frozenset(
    {
        "vm.error",
        "vm.io_error",
        "vm.suspended",
        "vm.busy",
        "vm.device",
        "vm.hindrance",
        "vm.snapshot",
        "vm.local_disk",
        "vm.local_media",
        "vm.no_target",
        "vm.no_room",
        "vm.cpu",
        "vm.machine",
        "vm.disk",
        "vm.network",
        "vm.huge_pages",
        "vm.numa",
        "vm.duplicate",
        "vm.rule",
        "vm.leave",
        "vm.cold",
    }
)
# Where people move the VMs, these say nothing against asking.
_OF_OUR_MOVES = frozenset({"cluster.too_small", "cluster.no_reserve"})


def check_weight(code: str, severity: str) -> None:
    """`Invalid` where a cluster's policy cannot give a code this severity."""
    if code not in CODES:
        raise Invalid(
            "severity.code",
            f"There is no finding code {code[:64]!r}.",
            remedy="See the table of findings in the reference.",
        )
    if severity not in set(Severity):
        raise Invalid(
            "severity.value",
            f"Finding {code} cannot weigh {severity[:64]!r}.",
            remedy=f"Give one of {', '.join(Severity)}.",
        )
    if not may_weigh(code, severity):
        raise Invalid(
            "severity.fixed",
            f"Finding {code} is a blocker everywhere: {CODES[code].meaning}",
            remedy=CODES[code].remedy,
        )


def may_weigh(code: str, severity: str) -> bool:
    """Whether a cluster's policy may give a code this severity: a blocker that nobody may
    override stays one."""
    kind = CODES.get(code)
    if kind is None or severity not in set(Severity):
        return False
    return severity == Severity.BLOCKER or kind.may_be_overridden
