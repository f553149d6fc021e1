"""Print the API's schema: `python -m furlough.openapi`. The checked-in copy is compared with it."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from furlough.api.app import create_app
from furlough.service import Service


def schema() -> dict[str, Any]:
    """The OpenAPI document. It depends on routes and shapes alone, so no service is needed."""
    return create_app(cast("Service", None), token="").openapi()


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
