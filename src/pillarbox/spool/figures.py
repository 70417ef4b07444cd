"""What every spool counts of its commits."""

from pillarbox.telemetry.counters import counter, histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_SECONDS = histogram("commit_seconds", "From the end of content to durable, in the spool", _BUCKETS)
COMMITTED = counter("messages_committed_total", "Messages made durable")
