"""[[directory]]: one module for each kind, with its table, its rules and how its settings are made (kinds.py)."""
