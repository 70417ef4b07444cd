"""pillarbox.toml: read, checked as a whole, and turned into each room's frozen settings."""

from pillarbox.config.files import check_files
from pillarbox.config.load import load, parse, schema
from pillarbox.config.settings import ConfigError, LogSettings, Mistake, ServerSettings, Settings

__all__ = [
    "ConfigError",
    "LogSettings",
    "Mistake",
    "ServerSettings",
    "Settings",
    "check_files",
    "load",
    "parse",
    "schema",
]
