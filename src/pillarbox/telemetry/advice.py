"""What to type when a library is missing or too old: the pip of the environment that we run in.

    install("ldap")    '/opt/pillarbox/bin/pip install "pillarbox[ldap]"'
    upgrade("apsw")    '/opt/pillarbox/bin/pip install -U apsw'

Any other pip, such as the system's, would install beside us.

ERRORS
    None.
"""

import shlex
import sys


def install(extra: str) -> str:
    """The command for an extra of ours."""
    return f'{_pip()} install "pillarbox[{extra}]"'


def upgrade(package: str) -> str:
    """The command for the newest of a package."""
    return f"{_pip()} install -U {package}"


def _pip() -> str:
    return shlex.quote(f"{sys.prefix}/bin/pip")
