"""The composition root: settings -> objects -> roles; the supervisor, signals, reload, drain, metrics."""
