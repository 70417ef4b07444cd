"""``python -m pillarbox.daemon ROLE WORKER CONFIG``: one role process, as the supervisor starts it."""

import sys
from pathlib import Path

from pillarbox.daemon.process import run_role
from pillarbox.daemon.roles import ROLES

if __name__ == "__main__":
    role, worker, path = sys.argv[1:]
    sys.exit(run_role(role, int(worker), Path(path), ROLES[role]))
