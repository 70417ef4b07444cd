"""Which spool a role uses, and that nobody pays for the one that he does not."""

import subprocess
import sys

import pytest

MODULES = ("submission_role", "delivery_role", "spool_role", "storehouse", "entry", "offline")


@pytest.mark.parametrize("module", MODULES)
def test_without_a_cluster_no_process_imports_the_driver_of_postgresql(module: str) -> None:
    code = f"import pillarbox.daemon.{module}, sys; print([n for n in sys.modules if n.startswith('psycopg')])"
    done = subprocess.run((sys.executable, "-P", "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ("delivery_role", "entry"))
def test_a_process_without_files_does_not_import_sqlite(module: str) -> None:
    code = f"import pillarbox.daemon.{module}, sys; print('apsw' in sys.modules)"
    done = subprocess.run((sys.executable, "-P", "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
