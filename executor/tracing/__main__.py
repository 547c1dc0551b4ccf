"""``python -m executor.tracing``: what ``plancast model import`` starts, for only the executor knows torch.

Prints the operations and layers of a module as JSON, or what is wrong with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from dataclasses import asdict

from executor.tracing.document import document
from executor.tracing.source import build_fake
from simulator.errors import InputError
from simulator.model.module import module_source


def main(given: str) -> int:
    """Trace the module that a JSON text describes."""
    try:
        # What torch logs of an error is said once more, in the error.
        logging.disable(logging.CRITICAL)
        source = module_source(**json.loads(given))
        # What the user's code prints must not end up in the answer.
        with contextlib.redirect_stdout(sys.stderr):
            found = document(build_fake(source.path), source)
    except InputError as error:
        print(json.dumps({"problems": [asdict(problem) for problem in error.diagnostics]}))
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
