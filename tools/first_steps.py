"""What an administrator types first, tried with an installed Pillarbox: init, check, serve, a message, status, stop.

usage: PYTHON-OF-A-VIRTUAL-ENVIRONMENT tools/first_steps.py FOLDER      (an empty folder, which is left behind)

It needs nothing but the standard library and the `pillarbox` beside the interpreter, so that it shows what a wheel
brings along. Exits 0 when every step held; else the failed command's output is shown.
"""

import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

PILLARBOX = Path(sys.executable).parent / "pillarbox"
PASSWORD = "correct horse battery staple"  # noqa: S105  made up, for a server that lives for seconds
MESSAGE = b"From: ada@example.org\r\nTo: bob@elsewhere.example\r\nSubject: first steps\r\n\r\nIt works.\r\n"
SECONDS = 60


def main(folder: Path) -> None:
    """All steps, in ``folder``."""
    os.chdir(folder)
    submission, submissions, metrics = free_ports(3)
    run("version")
    run("no-such-command", expect=2)
    answers = ["--name", "localhost", "--relay", "maildir:mail", "--user", "ada@example.org", "--password-stdin"]
    places = ["--ports", f"{submission},{submissions}", "--listen", "127.0.0.1", "--yes"]
    run("init", *answers, *places, stdin=f"{PASSWORD}\n")
    adapt(Path("pillarbox.toml"), metrics)
    run("check")
    run("config", "show")
    with Path("log").open("wb") as log:
        server = subprocess.Popen((PILLARBOX, "serve"), stdout=log, stderr=log)
    try:
        wait_for_port(submissions, server)
        send(submission, submissions)
        wait_for_mail(Path("mail/new"), 2)
        run("status", "--json")
        run("user", "list")
        run("queue", "list")
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(SECONDS)
        if status:
            print(Path("log").read_text(errors="replace"))
    if status:
        sys.exit(f"serve ended with {status}")
    print("first steps: init, check, serve, a message through both ports, status, stop: all held")


def run(*arguments: str, stdin: str = "", expect: int = 0) -> str:
    """One command; its exit code must be ``expect``, and no traceback may be shown."""
    done = subprocess.run(
        (PILLARBOX, *arguments),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode != expect or "Traceback" in done.stdout:
        sys.exit(f"pillarbox {' '.join(arguments)}: exit code {done.returncode}, not {expect}\n{done.stdout}")
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def adapt(config: Path, metrics: int) -> None:
    """A free port for the metrics; and root, if that is who tries, is told to stay root."""
    text = re.sub(r'"127\.0\.0\.1:9587"', f'"127.0.0.1:{metrics}"', config.read_text())
    if os.geteuid() == 0:
        text = text.replace("[server]\n", "[server]\nrun_as_root = true\n")
    config.write_text(text)


def wait_for_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Until somebody listens, or the server has ended, or a minute is over."""
    deadline = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"nobody listens on {port}:\n{Path('log').read_text(errors='replace')}")


def send(submission: int, submissions: int) -> None:
    """One message through each port, trusting the certificate that init made."""
    context = ssl.create_default_context(cafile="certificate.pem")
    with smtplib.SMTP("localhost", submission, timeout=SECONDS) as smtp:
        smtp.starttls(context=context)
        smtp.login("ada@example.org", PASSWORD)
        smtp.sendmail("ada@example.org", ["bob@elsewhere.example"], MESSAGE)
    with smtplib.SMTP_SSL("localhost", submissions, timeout=SECONDS, context=context) as smtp:
        smtp.login("ada@example.org", PASSWORD)
        smtp.sendmail("ada@example.org", ["bob@elsewhere.example"], MESSAGE)


def wait_for_mail(folder: Path, count: int) -> None:
    """Until ``count`` messages lie in a maildir."""
    deadline = time.monotonic() + SECONDS
    while len(list(folder.glob("*"))) < count:
        if time.monotonic() > deadline:
            sys.exit(f"no mail in {folder}:\n{Path('log').read_text(errors='replace')}")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
