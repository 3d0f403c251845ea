"""Certificates for tests of TLS, made where they are used."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

trustme = pytest.importorskip("trustme")


class Authority:
    """A certificate authority, and files of what it signed."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.authority, self.folder, self.name = trustme.CA(), folder, name
        self.ca = str(folder / f"{name}.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *identities: str, **dates: datetime.datetime) -> tuple[str, str]:
        """Certificate and key."""
        issued = self.authority.issue_cert(*identities, **dates)
        paths = str(self.folder / f"{self.name}-{name}.crt"), str(self.folder / f"{self.name}-{name}.key")
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])
        return paths
