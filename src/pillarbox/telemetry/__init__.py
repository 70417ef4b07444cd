"""What the server says of itself: structured events, counters, redaction. Knows no policy.

from pillarbox.telemetry import event, counters
"""
