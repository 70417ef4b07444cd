"""pillarbox.toml -> each room's frozen Settings. Errors name file and line, what was found, what was expected."""
