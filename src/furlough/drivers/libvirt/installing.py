"""The script that installs furlough-host on a host: one text for `/usr/bin/python3 -IS -`, which
carries the program itself, so that nothing has to be copied before and nothing is quoted.

It needs no libvirt binding here: the lab installs its hosts by it as well.
"""

from __future__ import annotations

import base64
from importlib import resources

PYTHON = ("/usr/bin/python3", "-IS", "-")

_SCRIPT = """\
import base64, json, sys
if sys.version_info < (3, 9):
    sys.exit("furlough-host needs Python 3.9 or newer; this is " + sys.version.split()[0])
source = base64.b64decode("{source}")
program = {{"__name__": "furlough_host"}}
exec(compile(source, "furlough-host", "exec"), program)
try:
    print(json.dumps(program["install"](source)))
except (OSError, ValueError, program["Refusal"]) as error:
    sys.exit(str(error))
"""


def script() -> str:
    """What installs furlough-host where it is run: prints one JSON document on success, one line
    on standard error otherwise."""
    source = resources.files("furlough.host").joinpath("furlough_host.py").read_bytes()
    return _SCRIPT.format(source=base64.b64encode(source).decode("ascii"))
