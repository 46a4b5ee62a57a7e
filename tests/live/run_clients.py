"""Runs programs of clients in this interpreter, and prints what became of each as its last line.

Standard input has the `names` that every program sees, and `calls`: a program and its token each.
The interpreter may be that of `.venv-clients`, which has no package of the project.
"""

import json
import os
import sys
from typing import Any


def outcome(program: str, names: dict[str, Any]) -> dict[str, Any]:
    """The vector of a program, or the error that ended it."""
    try:
        exec(program, names)
        return {"vector": [float(value) for value in names["vector"]]}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}


told = json.load(sys.stdin)
ended = [
    outcome(program, {"os": os, "token": token} | told["names"]) for program, token in told["calls"]
]
print()
print(json.dumps(ended))
