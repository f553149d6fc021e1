"""The use cases: what API, facades and pages call, and nothing below."""

from furlough.service.door import Preview, Service
from furlough.service.intake import Request, with_hash
from furlough.service.steering import Approval

__all__ = ["Approval", "Preview", "Request", "Service", "with_hash"]
