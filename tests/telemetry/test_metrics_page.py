"""docs/reference/metrics.md and the code name the same metrics, with the same kinds, labels and words."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `pillarbox_(\w+)` \| (\w+) \| ([^|]*) \| (.*)\. \|$", re.M)

ALL = """
import importlib, json, pkgutil, pillarbox
from pillarbox.telemetry.counters import snapshot
for module in pkgutil.walk_packages(pillarbox.__path__, "pillarbox."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in ("ldap",):  # an extra that comes as source only
                raise
print(json.dumps([(name, kind, labels, text) for kind, name, text, labels, _, _ in snapshot()]))
"""


def test_the_page_names_every_metric_and_no_other() -> None:
    # in a process of its own, where no test has declared any
    done = subprocess.run((sys.executable, "-c", ALL), capture_output=True, text=True, check=True)
    declared = {
        name: (kind, ", ".join(f"`{label}`" for label in labels) or "-", text)
        for name, kind, labels, text in json.loads(done.stdout)
    }
    documented = {name: (kind, labels, text) for name, kind, labels, text in ROW.findall(PAGE.read_text())}
    assert documented == declared
