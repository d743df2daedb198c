"""Reader tokens of an identity provider: real signatures, checked with the keys that it publishes."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api.issuer_keys import ASK_AGAIN_SECONDS, AWAY_SECONDS, FRESH_SECONDS, IssuerKeys, keys_at
from api.tokens import InvalidTokenError, TokenKey, TokenRules, VerificationUnavailableError
from messaging.contracts import UNKNOWN_TENANT

RULES = TokenRules("https://login.acme.example", "shardline", tenant_claim="tid", user_claim="preferred_username")
FIRST, SECOND = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
CURVE = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """Publishes keys, counts who asks, and can be away."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys
        self.asked = 0
        self.document: bytes | None = None
        self.away = False
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.now = 0.0
        self.verifier = IssuerKeys(self.fetch, RULES, monotonic=lambda: self.now)

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.gate is not None:
            self.reached.set()
            await self.gate.wait()
        if self.away:
            raise VerificationUnavailableError("away")
        if self.document is not None:
            return self.document
        published = []
        for key_id, key in self.keys.items():
            is_rsa = isinstance(key, rsa.RSAPrivateKey)
            made = (RSAAlgorithm if is_rsa else ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
            published.append({**made, "kid": key_id, "use": "sig", "alg": "RS256" if is_rsa else "ES256"})
        return json.dumps({"keys": published}).encode()


def token(key: Any, key_id: str | None = "first", algorithm: str = "RS256", **claims: Any) -> str:
    now = datetime.now(UTC)
    content = {
        "iss": RULES.issuer,
        "aud": RULES.audience,
        "tid": "acme",
        "preferred_username": "Ann@acme.example",
        "groups": ["sales"],
        "iat": now,
        "exp": now + timedelta(minutes=5),
    }
    headers = {"kid": key_id} if key_id else {}
    return jwt.encode(content | claims, key, algorithm=algorithm, headers=headers)


async def test_a_token_of_the_issuer_tells_tenant_user_and_groups() -> None:
    issuer = Issuer(first=FIRST, curve=CURVE)
    reader = await issuer.verifier.verify(token(FIRST))
    assert (reader.tenant_id, reader.user) == ("acme", "Ann@acme.example")
    assert {"user:ann@acme.example", "group:sales", "domain:acme.example"} <= reader.principals
    assert (await issuer.verifier.verify(token(CURVE, "curve", "ES256"))).tenant_id == "acme"
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: token(SECOND), "has a wrong signature"),
        (lambda: token(FIRST, "gone"), "signed with a key that its issuer does not publish"),
        (lambda: token(FIRST, None), "signed with a key that its issuer does not publish"),
        (lambda: token(FIRST, iss="https://evil.example"), "names a wrong issuer"),
        (lambda: token(FIRST, aud="other"), "names a wrong audience"),
        (lambda: token(FIRST, exp=datetime.now(UTC) - timedelta(hours=1)), "has expired"),
        (lambda: token(FIRST, tid=""), "names no tenant or no user"),
        (lambda: token(b"k" * 32, algorithm="HS256"), "is signed in another way"),
        (lambda: "eyJhbGciOiJub25lIn0.eyJ0aWQiOiJhY21lIn0.", "is signed in another way"),
        (lambda: "nonsense", "is malformed"),
    ],
)
async def test_what_the_issuer_did_not_sign_so_is_refused(made: Any, why: str) -> None:
    with pytest.raises(InvalidTokenError, match=why):
        await Issuer(first=FIRST).verifier.verify(made())


def with_claim(name: str, value: str) -> str:
    """A rightly signed token one of whose claims is this JSON, which no encoder writes."""
    claims = jwt.decode(token(FIRST), options={"verify_signature": False}) | {name: "HERE"}
    payload = json.dumps(claims).replace('"HERE"', value).encode()
    return jwt.PyJWS().encode(payload, FIRST, algorithm="RS256", headers={"kid": "first"})


ABSURD = ("1e999", "-1e999", "NaN", "[]", "{}", "null", '"\\ud800"', "9" * 5000, "[[]]", "[" * 50_000 + "]" * 50_000)


@pytest.mark.parametrize("value", ABSURD, ids=lambda value: value[:9])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "iss", "aud", "tid", "preferred_username"])
async def test_an_absurd_claim_is_a_token_that_proves_nothing(name: str, value: str) -> None:
    with pytest.raises(InvalidTokenError, match=r"^the token "):
        await Issuer(first=FIRST).verifier.verify(with_claim(name, value))


@pytest.mark.parametrize("name", ["groups", "roles"])
async def test_what_names_no_group_is_left_out(name: str) -> None:
    reader = await Issuer(first=FIRST).verifier.verify(with_claim(name, '[1e999, "\\ud800", "editors", [], null]'))
    assert all(text.isascii() for text in reader.principals | reader.roles)
    assert {"group:editors", "editors"} & (reader.principals | reader.roles)


@pytest.mark.parametrize("text", ["\ud800.e30.x", "e30.\ud800.x", "é.é.é", "..", "\0.\0.\0", ""])
async def test_text_that_no_token_can_be_is_malformed(text: str) -> None:
    with pytest.raises(InvalidTokenError, match=r"is malformed|is signed in another way"):
        await Issuer(first=FIRST).verifier.verify(text)
    with pytest.raises(InvalidTokenError, match=r"is malformed|is signed in another way"):
        await TokenKey(b"k" * 32, RULES).verify(text)


async def test_no_tenant_has_a_name_that_no_message_takes() -> None:
    for name in ("t" * 257, UNKNOWN_TENANT):
        with pytest.raises(InvalidTokenError, match="names no tenant"):
            await Issuer(first=FIRST).verifier.verify(token(FIRST, tid=name))
    assert await Issuer(first=FIRST).verifier.verify(token(FIRST, tid="t" * 256))


async def test_new_keys_are_found_and_forged_ids_do_not_make_it_ask_for_ever() -> None:
    issuer = Issuer(first=FIRST)
    await issuer.verifier.verify(token(FIRST))
    issuer.keys = {"second": SECOND}
    for _ in range(20):
        with pytest.raises(InvalidTokenError):
            await issuer.verifier.verify(token(SECOND, "second"))
    assert issuer.asked == 1
    issuer.now += ASK_AGAIN_SECONDS + 1
    assert (await issuer.verifier.verify(token(SECOND, "second"))).tenant_id == "acme"
    with pytest.raises(InvalidTokenError):
        await issuer.verifier.verify(token(FIRST))


async def test_a_known_key_waits_for_no_read() -> None:
    issuer = Issuer(first=FIRST)
    await issuer.verifier.verify(token(FIRST))
    issuer.now += ASK_AGAIN_SECONDS + 1
    issuer.gate = asyncio.Event()
    unknown = asyncio.create_task(issuer.verifier.verify(token(SECOND, "second")))
    async with asyncio.timeout(60):
        await issuer.reached.wait()
        assert (await issuer.verifier.verify(token(FIRST))).tenant_id == "acme"
    assert not unknown.done()
    issuer.gate.set()
    with pytest.raises(InvalidTokenError):
        await unknown


TRICKLES: dict[str, bytes] = {
    "a status line": b"",
    "a header": b"HTTP/1.1 200 OK\r\n",
    "a body of a known length": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "a body in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\nffff\r\n",
}


@pytest.mark.parametrize("name", TRICKLES)
async def test_a_document_that_comes_byte_by_byte_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes well within what a read may wait for the next one."""
    over, gone = asyncio.Event(), asyncio.Event()
    connections = 0

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            writer.write(TRICKLES[name])
            while not over.is_set():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()
            gone.set()

    monkeypatch.setattr("api.issuer_keys.READ_SECONDS", 0.3)
    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetch = keys_at("https://login.acme.example/keys", simulator=f"http://127.0.0.1:{port}")
    with pytest.raises(VerificationUnavailableError, match=r"https://login.acme.example/keys .* within 0.3 s"):
        await fetch()
    if "body" not in name:
        with pytest.raises(VerificationUnavailableError, match="within"):
            await fetch()
        assert connections == 1, "nobody can hang up during the headers, so it must stay one"
        over.set()
    async with asyncio.timeout(60):
        await gone.wait()
    server.close()


async def test_known_keys_serve_on_while_the_issuer_is_away() -> None:
    issuer = Issuer(first=FIRST)
    issuer.away = True
    with pytest.raises(VerificationUnavailableError):
        await issuer.verifier.verify(token(FIRST))
    issuer.away = False
    with pytest.raises(VerificationUnavailableError, match="away"):
        await issuer.verifier.verify(token(FIRST))
    assert issuer.asked == 1
    issuer.now += AWAY_SECONDS
    await issuer.verifier.verify(token(FIRST))
    issuer.away = True
    issuer.now += FRESH_SECONDS + 1
    assert (await issuer.verifier.verify(token(FIRST))).tenant_id == "acme"


@pytest.mark.parametrize("document", [b"<html>", b"[]", b'{"keys": 3}', b'{"keys": []}', b'{"keys": [{"kid": "x"}]}'])
async def test_a_document_without_keys_leaves_the_question_open(document: bytes) -> None:
    issuer = Issuer()
    issuer.document = document
    with pytest.raises(VerificationUnavailableError, match="key"):
        await issuer.verifier.verify(token(FIRST))


@pytest.mark.parametrize("url", ["https://127.0.0.1/keys", "https://localhost/keys"])
async def test_keys_are_read_from_public_addresses_alone(url: str) -> None:
    with pytest.raises(VerificationUnavailableError, match="no public address"):
        await keys_at(url)()
