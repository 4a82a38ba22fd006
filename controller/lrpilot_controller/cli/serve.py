"""`lrpilot serve`: run the daemon."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import click

from lrpilot_controller.cli.access import PEM, tokens_in, tokens_option
from lrpilot_controller.config import load_config
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.logs import Format, begin
from lrpilot_controller.server.address import Address
from lrpilot_controller.storage import Storage


@click.command()
@click.option("--listen", metavar="unix:PATH|HOST:PORT", help="Default: this storage's own socket.")
@click.option(
    "--storage",
    metavar="DIR|URL",
    help="Journal and reviews: a directory, or "
    "postgresql://USER@HOST/DATABASE. Default: the user's own directory.",
)
@click.option("--tls-cert", type=PEM, metavar="FILE", help="For HOST:PORT: certificate chain, PEM.")
@click.option("--tls-key", type=PEM, metavar="FILE", help="For HOST:PORT: its private key, PEM.")
@click.option(
    "--tls-client-ca",
    type=PEM,
    metavar="FILE",
    help="Ask clients for a certificate too, signed by these (mTLS).",
)
@tokens_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML settings.")
@click.option(
    "--keep-days",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Drop a run N days after its last word. Default: never; old telemetry is thinned.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Serve metrics for Prometheus there. Default: none.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Where; on another than loopback they are for everybody.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the log on standard error.",
)
@click.option(
    "--linger",
    type=click.FloatRange(min=0),
    metavar="S",
    help="End S seconds after the last session. Default: never.",
)
def serve(
    listen: str | None,
    storage: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    tokens: Path | None,
    config: Path | None,
    keep_days: float | None,
    metrics_port: int | None,
    metrics_host: str,
    log_format: Format,
    linger: float | None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    On HOST:PORT it needs TLS and a token, and listens on the owner's own socket too. Certificate,
    key and tokens are read again when their files change.
    """
    begin(log_format)
    settings = load_config(config)
    if keep_days is not None:
        settings = replace(settings, keep=replace(settings.keep, days=keep_days))
    kept = Storage.parse(storage) if storage else Storage.default()
    own = Address(path=kept.socket)
    address = Address.parse(listen) if listen else own
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    # Imported here: a wrong option is told at once, without loading the server.
    from lrpilot_controller.server.daemon import DaemonOptions
    from lrpilot_controller.server.daemon import serve as run

    if address.path is None:
        from lrpilot_controller.server.access.entrance import Entrance

        entrance = Entrance.open(
            address, kept, tokens_in(kept.folder, tokens), tls_cert, tls_key, tls_client_ca
        )
        options = DaemonOptions((own, address), kept, settings, linger, entrance, metrics)
    elif tls_cert or tls_key or tls_client_ca or tokens:
        raise ConfigError(
            f"--listen {address}: --tls-cert, --tls-key, --tls-client-ca and --tokens are for "
            "--listen HOST:PORT; a unix socket is its owner's alone"
        )
    else:
        options = DaemonOptions((address,), kept, settings, linger, metrics=metrics)
    sys.exit(asyncio.run(run(options)))
