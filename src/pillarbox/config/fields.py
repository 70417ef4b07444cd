"""What keys of pillarbox.toml may hold: the types of the tables' fields. The only importer of pydantic in this room.

Each type says how text of the file becomes a value (values.py), and how it is shown in the JSON Schema.

ERRORS
    None raised here: pydantic collects what values.py refuses.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from pillarbox.config import values
from pillarbox.submission.settings import Address, Network

__all__ = [
    "RESTART",
    "BeforeValidator",
    "CellName",
    "Count",
    "Discriminator",
    "Extension",
    "Field",
    "FilePath",
    "HostName",
    "IpAddress",
    "IpNetwork",
    "Listener",
    "Login",
    "Loopback",
    "Mailbox",
    "Mechanism",
    "NextHop",
    "Port",
    "RouteDomain",
    "Size",
    "Table",
    "Tag",
    "Text",
    "Time",
    "ValidationError",
]

RESTART = " A change needs a restart."
"""What ends the description of a key that a reload cannot change (daemon/restart.py)."""

Size = Annotated[
    int,
    PlainValidator(values.parse_size),
    PlainSerializer(values.format_size),
    WithJsonSchema({"type": ["string", "integer"], "format": "size", "examples": ["50MiB"]}),
]
Time = Annotated[
    float,
    PlainValidator(values.parse_time),
    PlainSerializer(values.format_time),
    WithJsonSchema({"type": "string", "format": "time", "examples": ["30s", "5m", "4h", "5d"]}),
]
Listener = Annotated[
    Address,
    PlainValidator(values.parse_listener),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "address", "examples": ["0.0.0.0:587", "[::]:587"]}),
]
Loopback = Annotated[
    Address,
    PlainValidator(values.parse_loopback),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "loopback address", "examples": ["127.0.0.1:9587"]}),
]
HostName = Annotated[
    str,
    PlainValidator(values.parse_host_name),
    WithJsonSchema({"type": "string", "format": "host name", "examples": ["mail.example.org"]}),
]
NextHop = Annotated[
    str,
    PlainValidator(values.parse_next_hop),
    WithJsonSchema({"type": "string", "format": "host name or IP address", "examples": ["mx.example.org"]}),
]
IpAddress = Annotated[
    str,
    PlainValidator(values.parse_ip),
    WithJsonSchema({"type": "string", "format": "IP address", "examples": ["192.0.2.1"]}),
]
IpNetwork = Annotated[
    Network,
    PlainValidator(values.parse_network),
    PlainSerializer(values.format_network),
    WithJsonSchema({"type": "string", "format": "IP address or network", "examples": ["10.20.0.0/16", "192.0.2.7"]}),
]
Login = Annotated[
    str,
    PlainValidator(values.parse_login),
    WithJsonSchema({"type": "string", "format": "login", "examples": ["printer-2nd-floor"]}),
]
Mailbox = Annotated[
    str,
    PlainValidator(values.parse_mailbox_or_domain),
    WithJsonSchema({"type": "string", "format": "mail address or @domain", "examples": ["scan@example.org"]}),
]
CellName = Annotated[
    str,
    PlainValidator(values.parse_cell_name),
    WithJsonSchema({"type": "string", "format": "short name", "examples": ["a"]}),
]
RouteDomain = Annotated[
    str, PlainValidator(values.parse_route_domain), WithJsonSchema({"type": "string", "format": "domain or *"})
]
FilePath = Annotated[
    str, Field(min_length=1, json_schema_extra={"format": "path"}), AfterValidator(values.parse_path)
]
Text = Annotated[str, Field(min_length=1)]
Extension = Literal[
    "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS", "LIMITS"
]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]


Mechanism = Annotated[
    Literal["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "EXTERNAL"],
    BeforeValidator(values.parse_mechanism),
]


class Table(BaseModel):
    """A table of the file. Unknown keys are refused; a value of another type is never converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
