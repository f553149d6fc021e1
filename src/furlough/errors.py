"""The error tree: one class per thing a caller can do about it.

Every error names its subject in the message, carries a stable `code` that programs may
branch on, and says in `remedy` what a person can do. Texts of foreign systems go into the
message, never into a branch.

    FurloughError
    ├── Invalid        the request makes no sense: correct it (exit 2, HTTP 422)
    ├── NotFound       no such thing: check the name (exit 2, HTTP 404)
    ├── NotAllowed     this caller may not (exit 7, HTTP 401 or 403)
    │   └── Throttled  not now: asked too often, wait (exit 7, HTTP 429)
    ├── Refused        understood and refused; nothing happened (exit 3, HTTP 409)
    ├── Conflict       something else is under way: wait for it or cancel it (exit 9, HTTP 409)
    │   └── Stale      somebody changed it first: read again, decide again
    ├── Unreachable    no answer: the outcome is unknown, look before anything else (exit 6, 503)
    └── Bug            we broke our own promise: report it (exit 1, HTTP 500)
"""

from __future__ import annotations


class FurloughError(Exception):
    """What went wrong, as a stable `code`, a sentence, a remedy and the facts behind it."""

    def __init__(self, code: str, message: str, *, remedy: str = "", **facts: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.facts = facts

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes."""
        return _rebuilt, (type(self), self.code, self.message, self.remedy, self.facts)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def _rebuilt(
    kind: type[FurloughError], code: str, message: str, remedy: str, facts: dict[str, object]
) -> FurloughError:
    return kind(code, message, remedy=remedy, **facts)


class Invalid(FurloughError):
    """The request makes no sense as it stands; nothing was done."""


class NotFound(FurloughError):
    """The thing asked for is not known here."""


class NotAllowed(FurloughError):
    """The caller is not known, or not allowed to do this."""


class Throttled(NotAllowed):
    """Asked too often or for too much at a time; `retry_after_s` says how long to wait."""


class Refused(FurloughError):
    """Understood and refused. From a hypervisor: it says that it did nothing."""


class Conflict(FurloughError):
    """Another operation, or the present state, stands against it."""


class Stale(Conflict):
    """The caller decided on facts that have changed: read again, decide again."""


class Unreachable(FurloughError):
    """No answer came. The act may have happened: look before doing anything else."""


class Bug(FurloughError):
    """A promise of this program was broken by this program."""
