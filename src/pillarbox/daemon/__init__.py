"""The composition root: settings -> objects -> roles; the supervisor, signals, reload, drain, metrics.

code = serve(path)                         # the whole tree
code = serve(path, role="spool")           # one role, for contrib/systemd
async with operator_channel(settings) as channel:
    value = await channel.request("queue.list", body)
"""

from pillarbox.daemon.entry import serve
from pillarbox.daemon.offline import operator_channel

__all__ = ["operator_channel", "serve"]
