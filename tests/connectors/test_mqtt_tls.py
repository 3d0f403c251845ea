"""TLS that is really on: certificates are made here, and every kind of wrong one is refused."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from certificates import Authority

from streamrde.connectors import Columns
from streamrde.connectors.access import read_secret
from streamrde.connectors.mqtt import MqttAddress, MqttLink, MqttSource, Tls
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.errors import BrokerError, ParameterError

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def served(folder: Path, certificate: tuple[str, str], ca: str, *, clients: bool = False):
    """mosquitto with TLS on the port of its address, and plain MQTT on no port of interest."""
    port = free_port()
    config = (
        f"listener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate[0]}\nkeyfile {certificate[1]}\n"
        f"require_certificate {'true' if clients else 'false'}"
    )
    return port, mosquitto(folder, config=config)


def connect(port: int, tls: Tls | None, *, scheme: str = "mqtts", host: str = "127.0.0.1") -> str:
    """Connect, and say with which version of TLS."""

    async def main() -> str:
        link = MqttLink(tls=tls, timeout=3.0, reconnect=False)
        async with MqttConnection(MqttAddress.parse(f"{scheme}://{host}:{port}"), link=link) as connection:
            return connection._wire.paho.socket().version()

    return asyncio.run(asyncio.wait_for(main(), 15))


def test_the_right_certificate_is_accepted_and_the_connection_is_encrypted(tmp_path, authority) -> None:
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1"), authority.ca)
    with broker:
        assert connect(port, Tls(ca=authority.ca)) in ("TLSv1.2", "TLSv1.3")


def refused(port: int, tls: Tls | None, match: str, **options: str) -> None:
    with pytest.raises(BrokerError, match=match):
        connect(port, tls, **options)


def test_a_wrong_authority_is_refused(tmp_path, authority) -> None:
    other = Authority(tmp_path, "other")
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1"), authority.ca)
    with broker:
        refused(port, Tls(ca=other.ca), "certificate verify failed")
        refused(port, None, "certificate verify failed")  # the system's authorities


def test_an_expired_certificate_is_refused(tmp_path, authority) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    dates = {"not_before": past - datetime.timedelta(days=1), "not_after": past}
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1", **dates), authority.ca)
    with broker:
        refused(port, Tls(ca=authority.ca), "certificate has expired")


def test_a_certificate_for_another_host_is_refused(tmp_path, authority) -> None:
    port, broker = served(tmp_path, authority.issue("server", "broker.example"), authority.ca)
    with broker:
        refused(port, Tls(ca=authority.ca), "IP address mismatch|not valid for")
        refused(port, Tls(ca=authority.ca), "Hostname mismatch|not valid for", host="localhost")


def test_tls_is_not_left_out_silently(tmp_path, authority, mosquitto_url) -> None:
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1"), authority.ca)
    plain = MqttAddress.parse(mosquitto_url).port
    with broker:
        refused(port, None, "cannot connect", scheme="mqtt")  # plain text to a port that speaks TLS
        refused(plain, Tls(ca=authority.ca), "cannot connect")  # TLS to a port that speaks plain text
    with pytest.raises(ParameterError, match="use mqtts://"):
        MqttConnection(MqttAddress.parse(mosquitto_url), link=MqttLink(tls=Tls(ca=authority.ca)))


def test_a_client_certificate_is_shown_where_the_broker_asks(tmp_path, authority) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client", "client")
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1"), authority.ca, clients=True)
    certificate, key = authority.issue("client", "client")
    with broker:
        connect(port, Tls(authority.ca, certificate, key))
        refused(port, Tls(authority.ca), "cannot connect")
        refused(port, Tls(authority.ca, *stranger), "cannot connect")


def test_files_that_are_no_certificates_are_refused(tmp_path, authority) -> None:
    certificate, key = authority.issue("client", "client")
    other = authority.issue("other", "other")[1]
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for tls, match in (
        (Tls(ca=str(tmp_path / "absent.pem")), "ca = .*absent"),
        (Tls(ca=str(text)), "ca = "),
        (Tls(authority.ca, certificate, other), "belong together"),
        (Tls(authority.ca, str(text), key), "certificate = "),
        (Tls(authority.ca, None, key), "key without a certificate"),
    ):
        with pytest.raises(ParameterError, match=match):
            tls.context()
    assert "S3CRET" not in repr(Tls(key_password="S3CRET"))


def test_samples_come_through_tls_while_the_queue_pauses(tmp_path, authority) -> None:
    """TLS holds decrypted bytes that the socket says nothing of: none may stay behind."""
    port, broker = served(tmp_path, authority.issue("server", "127.0.0.1"), authority.ca)
    link = MqttLink(tls=Tls(ca=authority.ca), reconnect=False)

    async def main() -> None:
        url = f"mqtts://127.0.0.1:{port}"
        columns = Columns(channels=("a",))
        source = MqttSource(url, topic="a/{stream}", columns=columns, queue_messages=20, batch_messages=5, link=link)
        async with source, MqttConnection(MqttAddress.parse(url), link=link) as client:
            for i in range(300):
                await client.publish("a/s", b'{"t": %d, "a": 1}' % i, 1)
            got: list[float] = []
            async for batch in source:
                got += batch.samples.t.tolist()
                await source.acknowledge(batch)
                if len(got) == 300:
                    break
            assert got == [float(i) for i in range(300)]

    with broker:
        asyncio.run(asyncio.wait_for(main(), 20))


def test_secrets_come_from_the_environment_or_a_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "password"
    file.write_text("S3CRET\nand more\n")
    monkeypatch.setenv("PASSWORD", "from the environment")
    assert read_secret("password", variable="PASSWORD", file=None) == "from the environment"
    assert read_secret("password", variable=None, file=str(file)) == "S3CRET"
    assert read_secret("password", variable=None, file=None) is None
    file.write_text("\n")
    for variable, path, match in (
        ("PASSWORD", str(file), "not both"),
        ("NOT_SET_ANYWHERE", None, "not set"),
        (None, str(tmp_path / "absent"), "cannot be read"),
        (None, str(file), "empty"),
    ):
        with pytest.raises(ParameterError, match=match):
            read_secret("password", variable=variable, file=path)
