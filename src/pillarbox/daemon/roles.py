"""x"""

from pillarbox.daemon.process import Make

ROLES: dict[str, Make] = {}
OPERATOR_VERBS: tuple[str, ...] = ()
