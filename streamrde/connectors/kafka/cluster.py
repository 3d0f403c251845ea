"""A Kafka cluster: how it is reached, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamrde.connectors.access import Address, Tls
from streamrde.errors import BrokerError

# Errors that have their reason in those before.
_UNREACHED = ("_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN", "_RESOLVE")
# Errors of a login or of TLS, which are refusals unless the connection broke meanwhile.
_REFUSALS = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL")
_BROKEN = ("transport failure", "isconnected", "imed out")
# Errors that trying again does not mend.
FINAL = (
    "_AUTO_OFFSET_RESET", "_FATAL", "_FENCED", "_INVALID_ARG", "CLUSTER_AUTHORIZATION_FAILED", "FENCED_INSTANCE_ID",
    "GROUP_AUTHORIZATION_FAILED", "INVALID_CONFIG", "INVALID_RECORD", "MSG_SIZE_TOO_LARGE", "POLICY_VIOLATION",
    "TOPIC_AUTHORIZATION_FAILED", "TOPIC_EXCEPTION", "UNRELEASED_INSTANCE_ID", "UNSUPPORTED_SASL_MECHANISM",
    "UNSUPPORTED_VERSION",
)  # fmt: skip


@dataclass(frozen=True)
class OAuth:
    """Client credentials, by which a token server gives tokens (RFC 6749, section 4.4).

    Args:
        token_url: address of the token server's endpoint.
        client_id, client_secret: name and secret of this client there.
        scope: what is asked for; "": nothing in particular.
        ca: PEM file of the authorities to trust at an https:// address; None: the system's.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    ca: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return librdkafka's settings."""
        found = {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": self.token_url,
            "sasl.oauthbearer.client.id": self.client_id,
            "sasl.oauthbearer.client.secret": self.client_secret,
        }
        found |= {"sasl.oauthbearer.scope": self.scope} if self.scope else {}
        return found | ({"https.ca.location": self.ca} if self.ca else {})


@dataclass(frozen=True)
class KafkaCluster:
    """A Kafka cluster and how a client reaches it.

    Args:
        address: a broker of the cluster, with the user if there is one.
        brokers: further brokers to begin with, as host:port.
        tls: files of TLS; None: the defaults.
        mechanism: SASL mechanism, where there is a user.
        oauth: where tokens come from, for the mechanism OAUTHBEARER.
        options: further settings of librdkafka.
    """

    address: Address
    brokers: Sequence[str] = ()
    tls: Tls | None = None
    mechanism: str = "PLAIN"
    oauth: OAuth | None = None
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def servers(self) -> list[str]:
        """Return the brokers to begin with, as host:port."""
        return [f"{self.address}", *self.brokers]

    def settings(self) -> dict[str, Any]:
        """Return librdkafka's settings for a consumer, a producer or an admin client."""
        address, bearer = self.address, self.mechanism == "OAUTHBEARER"
        named = bearer or address.user is not None
        found: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.servers),
            "client.id": "streamrde",
            "security.protocol": f"{'SASL_' if named else ''}{'SSL' if address.tls else 'PLAINTEXT'}",
            # What the client library reports is raised or logged here.
            "log_level": 0,
            # Where a client begins again by itself (KIP-899), librdkafka 2.16 may never return from
            # send_offsets_to_transaction (its issues 5456 and 5511). Lost connections are made anew.
            "metadata.recovery.strategy": "none",
        }
        if named:
            found["sasl.mechanisms"] = self.mechanism
        if self.oauth is not None:
            found |= self.oauth.settings()
        elif named and not bearer:
            found |= {"sasl.username": address.user, "sasl.password": address.password or ""}
        if (tls := self.tls) is not None:
            files = {
                "ssl.ca.location": tls.ca,
                "ssl.certificate.location": tls.certificate,
                "ssl.key.location": tls.key,
                "ssl.key.password": tls.key_password,
            }
            found |= {key: value for key, value in files.items() if value}
        return found | dict(self.options)

    def refusal(self, error: Any, problems: Sequence[Any] = (), what: str = "") -> BrokerError:
        """Return an error of the client library with its remedy.

        Args:
            error: a `confluent_kafka.KafkaError`.
            problems: errors that the library reported before, the latest last.
            what: what was tried, before the text.
        """
        # The reason why no broker answers is among the errors that came before.
        if error.name() in _UNREACHED:
            error = next((one for one in reversed(problems) if one.name() in _REFUSALS), error)
        text, name = error.str() or error.name(), error.name()
        if name in _REFUSALS and not any(sign in text for sign in _BROKEN):
            return BrokerError(self._remedy(name, text), final=not self._is_passing(text))
        if name == "UNSUPPORTED_VERSION" and "onsumer" in text:
            return BrokerError(f'{text}; it knows the classic protocol only: set protocol = "classic"', final=True)
        if name == "UNRELEASED_INSTANCE_ID":
            return BrokerError(f"{text}; another run with the same instance reads as this group: end it", final=True)
        if name == "FENCED_INSTANCE_ID":
            return BrokerError(f"{text}; a later run has taken over this instance; give each its own", final=True)
        if name in FINAL or error.fatal():
            return BrokerError(f"{what}{text} ({name})", final=True)
        remedy = "look at the broker's log, or check host, port and kafka:// or kafka+ssl://"
        if name in _UNREACHED and self.address.tls and (self.tls is None or self.tls.certificate is None):
            # TLS 1.3 does not say why a broker hangs up.
            remedy += ", and set tls.certificate and tls.key if it asks for a client's certificate"
        return BrokerError(f"{what}{text}; {remedy}")

    def _is_passing(self, text: str) -> bool:
        """Return True if the token server did not answer, which may pass. What it refuses does not."""
        return self.oauth is not None and "token" in text and any(sign in text for sign in ("onnect", "resolve"))

    def _remedy(self, name: str, text: str) -> str:
        if name == "_SSL":
            if "certificate verify failed" in text:
                return f"its certificate is not accepted ({text}); set tls.ca"
            if "certificate required" in text or "bad certificate" in text or "unknown ca" in text:
                return f"it does not accept this client's certificate ({text}); set tls.certificate and tls.key"
            return f"TLS fails ({text}); check the port, or use kafka://"
        if self.oauth is not None:
            return f"no token is accepted ({text}); check oauth: token_url, client_id, its secret and scope"
        return f"it refuses user and password, or the mechanism ({text}); check them"
