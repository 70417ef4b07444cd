"""Without python-ldap, which comes as source only, what needs it is left out; in CI that is an error."""

import os
from importlib.util import find_spec

collect_ignore: list[str] = []
if find_spec("ldap") is None and "CI" not in os.environ:
    collect_ignore += ["test_backend.py", "test_failures.py", "test_many.py", "test_presets.py"]
