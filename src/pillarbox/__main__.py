"""``python -m pillarbox`` is ``pillarbox``."""

from pillarbox.cli import main

main()
