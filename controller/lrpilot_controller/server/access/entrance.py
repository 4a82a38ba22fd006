"""What an address on TCP needs, or `lrpilot serve` does not start."""

from dataclasses import dataclass
from pathlib import Path

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.access.tls import Certificates, TlsFiles
from lrpilot_controller.server.access.tokens import Tokens
from lrpilot_controller.server.address import Address
from lrpilot_controller.storage import Storage


@dataclass(frozen=True, slots=True)
class Entrance:
    """Whom to let in, and what to show them."""

    tokens: Tokens
    certificates: Certificates

    @classmethod
    def open(
        cls,
        address: Address,
        storage: Storage,
        tokens: Path,
        cert: Path | None,
        key: Path | None,
        client_ca: Path | None,
    ) -> "Entrance":
        """Read everything once, and say exactly what is missing.

        Args:
            address: Where the daemon is to listen.
            storage: Its storage, for what it says to do.
            tokens: The file of the tokens.
            cert: The certificate chain.
            key: Its private key.
            client_ca: What clients' certificates are signed by; None: none is asked for.

        Raises:
            ConfigError: something is missing or cannot be used, with what to add.
        """
        missing = []
        if cert is None or key is None:
            flags = " ".join(
                f"{flag} FILE"
                for flag, given in (("--tls-cert", cert), ("--tls-key", key))
                if given is None
            )
            missing.append(
                f"add {flags} (for a first try, `lrpilot certificate --storage {storage} "
                f"{address.host}` makes both and prints the flags)"
            )
        known = Tokens(tokens)
        if known.empty:
            missing.append(
                "make a token: `lrpilot token create NAME --role trainer --project PROJECT "
                f"--tokens {tokens}`"
            )
        if missing or cert is None or key is None:
            raise ConfigError(
                f"--listen {address}: TCP needs TLS and a token: {'; '.join(missing)}"
            )
        return cls(known, Certificates(TlsFiles(cert, key, client_ca)))
