"""Every extension's parameter, from the sender through the whole house to the next hop: passed on where it is
offered, left out where it may be, bounced where it may not be; and a hold is ours, whoever offers one."""

import asyncio
import re
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nexthop import DEFAULT_KEYWORDS, NextHop
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

EVERYTHING = (
    *DEFAULT_KEYWORDS, "CHUNKING", "BINARYMIME", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS",
    "FUTURERELEASE 86400 2030-01-01T00:00:00Z",
)  # fmt: skip
NOTHING = ("ENHANCEDSTATUSCODES",)
TEXT = b"From: ada@example.org\r\nSubject: text\r\n\r\ntext\r\n"
EIGHT_BIT = b"From: ada@example.org\r\nSubject: eight\r\n\r\nJ\xc3\xbcrgen\r\n"
BINARY = b"From: ada@example.org\r\nSubject: binary\r\n\r\n\0\n.\r\n\r\n\xff\r"


@dataclass
class House:
    """The daemon, the next hop of able.example and that of plain.example; all other mail goes into a maildir."""

    daemon: RunningDaemon
    password: str
    able: NextHop
    plain: NextHop

    async def submit(
        self, mail: str, rcpts: Sequence[str] = ("b@able.example",), content: bytes = TEXT, *, bdat: bool = False
    ) -> str:
        """One message of Ada's; ``rcpts``: a path and its parameters for each RCPT. Returns its queue id."""
        return await asyncio.to_thread(self._submit, mail, rcpts, content, bdat)

    def _submit(self, mail: str, rcpts: Sequence[str], content: bytes, bdat: bool) -> str:
        with Talk(self.daemon.submissions, self.daemon.ca) as talk:
            talk.say("EHLO client.example.org")
            assert talk.sign_in("ada", self.password).startswith("235")
            answer = talk.say(f"MAIL FROM:<ada@example.org> {mail}")
            assert answer.startswith("250"), answer
            for rcpt in rcpts:
                path, _, parameters = rcpt.partition(" ")
                answer = talk.say(f"RCPT TO:<{path}> {parameters}")
                assert answer.startswith("250"), answer
            if bdat:
                talk.send(b"BDAT %d\r\n" % 10 + content[:10])
                assert talk.reply().startswith("250")
                talk.send(b"BDAT %d LAST\r\n" % (len(content) - 10) + content[10:])
            else:
                assert talk.say("DATA").startswith("354")
                talk.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            answer = talk.reply()
        assert answer.startswith("250 2.0.0 Ok: queued as "), answer
        return answer.rpartition(" ")[2]

    async def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.daemon.wait_for, event, timeout=30.0, **fields)

    async def reports(self) -> list[bytes]:
        """What Ada was told, after the daemon was stopped."""
        assert await asyncio.to_thread(self.daemon.stop) == 0
        return [content for content in self.daemon.delivered() if b"multipart/report" in content]

    async def send_early(self, queue_id: str) -> None:
        """`pillarbox queue retry --early`."""
        command = (sys.executable, "-P", "-m", "pillarbox", "queue", "retry", queue_id, "--early")
        config = ("--config", str(self.daemon.config))
        await asyncio.to_thread(subprocess.run, command + config, check=True, capture_output=True, timeout=60)


@asynccontextmanager
async def house(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> AsyncIterator[House]:
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    async with NextHop(keywords=EVERYTHING, tls=context) as able, NextHop(keywords=NOTHING, tls=context) as plain:
        routes = "".join(
            f'[[route]]\ndomains = ["{name}.example"]\nhost = "localhost"\nport = {hop.port}\n'
            f'tls = "starttls"\nca = "{authority.ca}"\n'
            for name, hop in (("able", able), ("plain", plain))
        )
        routes += f'[[route]]\nkind = "maildir"\npath = "{tmp_path / "maildir"}"\n'
        daemon = await asyncio.to_thread(
            start_daemon, tmp_path, authority, routes=routes, at_end=request.addfinalizer
        )
        await asyncio.to_thread(daemon.user, "ada", password, ["ada@example.org"])
        yield House(daemon, password, able, plain)
        assert able.violations == plain.violations == []


def field(content: bytes, name: str) -> str:
    """The first field of that name, in the header or in a part."""
    found = re.search(rf"^{name}: (.*)\r$".encode(), content, re.MULTILINE)
    assert found is not None
    return found[1].decode()


async def test_what_is_asked_for_reaches_a_next_hop_that_offers_it(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with house(tmp_path, authority, request, password) as home:
        await home.submit(
            "BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 MT-PRIORITY=4 BY=7200;R REQUIRETLS",
            (
                "b@able.example NOTIFY=DELAY,SUCCESS ORCPT=rfc822;bob+2Bx@example.org",
                "j\u00fcrgen@able.example NOTIFY=NEVER",
                "c@able.example",
            ),
            EIGHT_BIT,
        )
        await home.submit("BODY=BINARYMIME", content=BINARY, bdat=True)
        await home.submit("BODY=8BITMIME", content=TEXT)
        await home.able.received(3)
        messages = {field(message.content, "Subject"): message for message in home.able.messages}
        asked, binary, text = messages["eight"], messages["binary"], messages["text"]
        assert asked.tls and asked.content.endswith(EIGHT_BIT)
        assert asked.forward_paths == ["b@able.example", "j\u00fcrgen@able.example", "c@able.example"]
        assert asked.rcpt_parameters == [
            ("NOTIFY=SUCCESS,DELAY", "ORCPT=RFC822;BOB+2BX@EXAMPLE.ORG"),
            ("NOTIFY=NEVER",),
            (),
        ]
        parameters = dict(word.partition("=")[::2] for word in asked.mail_parameters)
        seconds, _, mode = parameters.pop("BY").partition(";")
        assert 7000 < int(seconds) <= 7200 and mode == "R"
        assert parameters == {
            "SIZE": str(len(asked.content)),
            "BODY": "8BITMIME",
            "SMTPUTF8": "",
            "RET": "HDRS",
            "ENVID": "QQ+2B1",
            "MT-PRIORITY": "4",
            "REQUIRETLS": "",
        }
        assert binary.content.endswith(BINARY)
        assert set(binary.mail_parameters) == {"BODY=BINARYMIME", f"SIZE={len(binary.content)}"}
        assert any(line == f"BDAT {len(binary.content)} LAST" for _, line in home.able.commands)
        assert text.mail_parameters == (f"SIZE={len(text.content)}",)  # 7-bit after all: nothing is claimed
        # success is the next hop's to tell, since it offers DSN
        assert await home.reports() == []


async def test_what_may_be_left_out_is_where_it_is_not_offered(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with house(tmp_path, authority, request, password) as home:
        queue_id = await home.submit(
            "BODY=8BITMIME RET=FULL ENVID=QQ+2B1 MT-PRIORITY=-4 BY=7200;N",
            ("b@plain.example NOTIFY=SUCCESS ORCPT=rfc822;bob@example.org", "c@plain.example NOTIFY=NEVER"),
        )
        await home.plain.received(1)
        (message,) = home.plain.messages
        assert message.mail_parameters == ()
        assert message.rcpt_parameters == [(), ()]
        assert message.content.endswith(TEXT)
        report_id = (await home.wait_for("report.made", queue_id=queue_id))["report"]
        await home.wait_for("delivery.delivered", queue_id=report_id)
        (report,) = await home.reports()
        assert b"Action: relayed\r\n" in report
        assert b"Original-Envelope-Id: QQ+1\r\n" in report
        assert b"Original-Recipient: rfc822; bob@example.org\r\n" in report
        assert b"c@plain.example" not in report


async def test_what_may_not_be_left_out_is_bounced_where_it_is_not_offered(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with house(tmp_path, authority, request, password) as home:
        wanted = {
            await home.submit("BODY=8BITMIME", ["b@plain.example"], EIGHT_BIT): "5.6.3",
            await home.submit("BODY=BINARYMIME", ["b@plain.example"], BINARY, bdat=True): "5.6.3",
            await home.submit("SMTPUTF8", ["j\u00fcrgen@plain.example"]): "5.6.7",
            await home.submit("REQUIRETLS", ["b@plain.example"]): "5.7.30",
            await home.submit("BY=7200;R", ["b@plain.example"]): "5.4.7",
        }
        for queue_id, status in wanted.items():
            failed = await home.wait_for("delivery.failed", queue_id=queue_id)
            assert failed["status"] == status
            bounce_id = (await home.wait_for("bounce.made", queue_id=queue_id))["bounce"]
            await home.wait_for("delivery.delivered", queue_id=bounce_id)
        assert home.plain.messages == []
        assert "MAIL" not in home.plain.verbs()
        bounces = await home.reports()
        said = {}
        for bounce in bounces:
            said[field(bounce, "X-Pillarbox-Queue-ID")] = field(bounce, "Status")
        assert said == wanted


async def test_a_hold_is_kept_here_though_the_next_hop_offers_it(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with house(tmp_path, authority, request, password) as home:
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
        held = [await home.submit("HOLDFOR=3600"), await home.submit(f"HOLDUNTIL={later}")]
        free = await home.submit("")
        await home.wait_for("delivery.delivered", queue_id=free)
        assert len(home.able.messages) == 1
        for queue_id in held:
            await home.send_early(queue_id)
        await home.able.received(3)
        assert not [word for message in home.able.messages for word in message.mail_parameters if "HOLD" in word]
        assert await home.reports() == []
