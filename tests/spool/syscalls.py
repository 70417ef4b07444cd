"""What is on stable storage, worked out from a program's system calls (strace): only what fsync was asked for.

    log = trace([sys.executable, ...], under=directory, marker=b"ACKNOWLEDGED")
    log.restore(to)              # the files as a power cut at the marker would leave them, at worst

The model is the worst that POSIX allows: a file's octets exist after an fsync or fdatasync of the file that began
after they were written, a name exists after an fsync of its directory that began after it was made.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = "openat,open,creat,write,writev,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,unlink,ftruncate"
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_CALL = re.compile(
    r"^(?P<name>\w+)\((?P<arguments>.*?)(?:\) += (?P<result>-?\d+|\?).*| <unfinished \.\.\.>)$", re.DOTALL
)
_RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>-?\d+|\?).*$", re.DOTALL)
_DESCRIPTOR = re.compile(r"^(?:\d+|AT_FDCWD)<(?P<path>(?:\\x[0-9a-f]{2}|[^>\\])*)>")
_STRING = re.compile(r'"(?P<octets>(?:\\x[0-9a-f]{2})*)"(?P<cut>\.\.\.)?')


@dataclass
class File:
    """One file: what was written, and what of it is on stable storage."""

    octets: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None

    def write(self, octets: bytes, offset: int) -> None:
        """As pwrite."""
        if len(self.octets) < offset:
            self.octets.extend(bytes(offset - len(self.octets)))
        self.octets[offset : offset + len(octets)] = octets


@dataclass
class Log:
    """The state of the files under one directory, call by call."""

    under: str
    names: dict[str, File] = field(default_factory=dict)
    durable_names: dict[str, File] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    syncs: int = 0

    def call(self, name: str, arguments: str, result: int) -> None:
        """A call that ended well."""
        if name in ("openat", "open", "creat"):
            self._open(arguments)
        elif name in ("write", "pwrite64"):
            self._write(name, arguments, result)
        elif name == "writev":
            self._write_vector(arguments, result)
        elif name in ("pwritev", "renameat2"):
            raise NotImplementedError(name)
        elif name == "ftruncate":
            file = self.names.get(self._path(arguments))
            if file is not None:
                size = int(arguments.rpartition(",")[2])
                del file.octets[size:]
                file.octets.extend(bytes(size - len(file.octets)))
        elif name in ("rename", "renameat"):
            old, new = (text(found) for found in _STRING.finditer(arguments))
            if old in self.names:
                self.names[new] = self.names.pop(old)
        elif name == "unlink":
            self.names.pop(text(_one(arguments)), None)

    def _open(self, arguments: str) -> None:
        path = text(_one(arguments))
        if path.startswith(self.under) and "O_CREAT" in arguments and "O_DIRECTORY" not in arguments:
            self.names.setdefault(path, File())
            self.offsets[path] = 0

    def _write(self, name: str, arguments: str, result: int) -> None:
        path = self._path(arguments)
        if path not in self.names:
            return
        found = _one(arguments)
        assert not found["cut"], "strace cut a string short"
        octets = bytes.fromhex(found["octets"].replace("\\x", ""))[:result]
        if name == "pwrite64":
            self.names[path].write(octets, int(arguments.rpartition(",")[2]))
        else:
            self.names[path].write(octets, self.offsets[path])
            self.offsets[path] += result

    def _write_vector(self, arguments: str, result: int) -> None:
        path = self._path(arguments)
        if path not in self.names:
            return
        found = list(_STRING.finditer(_after_descriptor(arguments)))
        assert not any(each["cut"] for each in found), "strace cut a string short"
        octets = b"".join(bytes.fromhex(each["octets"].replace("\\x", "")) for each in found)[:result]
        self.names[path].write(octets, self.offsets[path])
        self.offsets[path] += result

    def sync(self, path: str) -> "Sync":
        """A sync begins: what it will have made durable when it ends."""
        file = self.names.get(path)
        here = {name: made for name, made in self.names.items() if str(Path(name).parent) == path}
        return Sync(self, path, file, bytes(file.octets) if file else b"", here)

    def _path(self, arguments: str) -> str:
        return path_of(arguments)

    def restore(self, to: Path) -> None:
        """Writes what is on stable storage into the empty directory ``to``."""
        for name, file in self.durable_names.items():
            if file.synced is not None and not name.endswith("-shm"):
                target = to / Path(name).relative_to(self.under)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.synced)

    def unsynced(self) -> list[str]:
        """Files with octets or a name that a power cut could take, by what was asked for; never the shared memory."""
        return sorted(
            name
            for name, file in self.names.items()
            if not name.endswith(("-shm", ".lock"))
            and (self.durable_names.get(name) is not file or bytes(file.octets) != file.synced)
        )


@dataclass
class Sync:
    """An fsync or fdatasync on its way."""

    log: Log
    path: str
    file: File | None
    octets: bytes
    here: dict[str, File]

    def ended(self) -> None:
        """It returned 0."""
        self.log.syncs += 1
        if self.file is not None:
            self.file.synced = self.octets
        gone = [n for n in self.log.durable_names if str(Path(n).parent) == self.path and n not in self.here]
        for name in gone:
            del self.log.durable_names[name]
        self.log.durable_names.update(self.here)


def _after_descriptor(arguments: str) -> str:
    found = _DESCRIPTOR.match(arguments)
    return arguments[found.end() :] if found else arguments


def _one(arguments: str) -> re.Match[str]:
    found = _STRING.search(arguments)
    assert found is not None, arguments[:200]
    return found


def text(found: re.Match[str]) -> str:
    """The text of a string in strace's hexadecimal form."""
    return bytes.fromhex(found["octets"].replace("\\x", "")).decode()


def path_of(arguments: str) -> str:
    """The path of the descriptor that is a call's first argument."""
    found = _DESCRIPTOR.match(arguments)
    if found is None:
        return ""
    return re.sub(r"\\x([0-9a-f]{2})", lambda octet: chr(int(octet[1], 16)), found["path"])


def strace_is_usable() -> str | None:
    """None, or why it is not."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    probe = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "strace may not trace here (ptrace is forbidden)"


def trace(command: Sequence[str], *, under: Path, output: Path, marker: bytes) -> Log:
    """Runs the command and gives the state at the moment when it began to write ``marker`` to any descriptor."""
    record(command, output)
    return replay(output, under=under, marker=marker)


def record(command: Sequence[str], output: Path) -> None:
    """Runs the command, and its children, under strace."""
    options = ["-f", "-qq", "-y", "-xx", "-s", "16777216", "-e", f"trace={_CALLS}", "-e", "signal=none"]
    subprocess.run(["strace", *options, "-o", str(output), *command], check=True)


def replay(output: Path, *, under: Path, marker: bytes, call: str = "write") -> Log:
    """The state at the moment when ``marker`` began to be written by a ``call``."""
    log = Log(str(under))
    pending: dict[str, tuple[str, str, Sync | None]] = {}
    wanted = "".join(f"\\x{octet:02x}" for octet in marker)
    with output.open() as lines:
        for line in lines:
            whole = _LINE.match(line.rstrip("\n"))
            if whole is None:
                continue
            if wanted in whole["rest"] and whole["rest"].startswith(f"{call}("):
                return log
            _take(log, pending, whole["pid"], whole["rest"])
    raise AssertionError("the marker was never written")


def _take(log: Log, pending: dict[str, tuple[str, str, Sync | None]], pid: str, rest: str) -> None:
    resumed = _RESUMED.match(rest)
    if resumed is not None:
        name, arguments, sync = pending.pop(pid)
        arguments += resumed["arguments"]
        result = resumed["result"]
    else:
        call = _CALL.match(rest)
        if call is None:
            return
        name, arguments, result = call["name"], call["arguments"], call["result"]
        sync = log.sync(path_of(arguments)) if name in ("fsync", "fdatasync") else None
        if result is None:
            pending[pid] = (name, arguments, sync)
            return
    if result == "?" or int(result) < 0:
        return
    if sync is not None:
        sync.ended()
    else:
        log.call(name, arguments, int(result))
