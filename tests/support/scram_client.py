"""An exchange in SCRAM-SHA-256 over a conversation, by scramp's client."""

import base64

import scramp  # type: ignore[import-untyped]  # it ships no types
from tests.support.talk import Talk


def scram(talk: Talk, login: str, password: str) -> str:
    """The last reply."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], login, password)
    first = base64.b64encode(client.get_client_first().encode()).decode()
    client.set_server_first(base64.b64decode(talk.say(f"AUTH SCRAM-SHA-256 {first}")[4:]).decode())
    answer = talk.say(base64.b64encode(client.get_client_final().encode()).decode())
    if not answer.startswith("334"):
        return answer
    client.set_server_final(base64.b64decode(answer[4:]).decode())
    return talk.say("")
