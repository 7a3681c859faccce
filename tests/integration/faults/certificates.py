"""Certificates for TLS, made for one test run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class ServerCertificate:
    """PEM files: a certificate for this machine with its chain, its key, and the authority that signed it.

    The authority also signed the client's certificate.
    """

    authority: Path
    chain: Path
    key: Path
    client_chain: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make an authority and what it signs."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(
            *(folder / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key"))
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(made.authority)
        for chain, key in ((made.chain, made.key), (made.client_chain, made.client_key)):
            certificate = authority.issue_cert("127.0.0.1", "localhost")
            certificate.private_key_pem.write_to_path(key)
            for pem in certificate.cert_chain_pems:
                pem.write_to_path(chain, append=True)
        return made
