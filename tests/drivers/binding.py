"""libvirt's Python binding is an extra: what needs it is skipped where it is not installed, and
fails where real hosts are required."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest


def needing_libvirt(module: str) -> Any:
    """The module of that name."""
    if os.environ.get("FURLOUGH_REQUIRE_LAB") == "1":
        return importlib.import_module(module)
    return pytest.importorskip(module, reason="libvirt's Python binding is not installed")


NODE = """\
<node>
  <cpu><mhz>2400</mhz><nodes>1</nodes><sockets>1</sockets><cores>4</cores></cpu>
  <memory>8192000</memory>
  <domain type='test'><name>test</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
    <memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type>hvm</type></os>
    <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='/srv/a.qcow2'/><target dev='vda'/></disk></devices></domain>
</node>
"""


def private_host(directory: Path) -> str:
    """The URI of a host with one running VM, `test`, that no other test sees: it lives in our own
    process and ends with its connection."""
    path = directory / "node.xml"
    path.write_text(NODE, encoding="utf-8")
    return f"test://{path}"
