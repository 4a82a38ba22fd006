"""`lrpilot certificate`: what TLS needs, for a first try."""

import socket
from pathlib import Path

import click

from lrpilot_controller.cli.options import storage_option
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.storage import Storage
from lrpilot_proto.rendezvous import private_dir


@click.command()
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="NAME",
    help="Also a certificate for a client, for mTLS. Repeatable.",
)
@click.option("--days", type=click.IntRange(min=1), default=90, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Default: tls in the storage.",
)
@storage_option
def certificate(
    hosts: tuple[str, ...],
    clients: tuple[str, ...],
    days: int,
    output: Path | None,
    storage: Storage | None,
) -> None:
    """Make a certificate for a daemon on HOST, and print how to use it.

    HOST is a name or address that clients connect to; this host's name unless given. It is signed
    by an authority whose key is thrown away at once, so that nobody can sign more with it; whoever
    has its ca.pem trusts what it signed. In the long run use your organisation's own certificates.
    """
    from lrpilot_controller.server.access.certificates import Authority

    names = hosts or (socket.gethostname(),)
    for client in clients:
        if client in ("ca", "server") or Path(client).name != client:
            raise ConfigError(f"--client {client}: a plain name, and not 'ca' or 'server'")
    kept = storage or Storage.default()
    folder = (output or kept.folder / "tls").expanduser().absolute()
    try:
        if output is None:
            kept.make_folder()
        private_dir(folder)
        authority = Authority(days)
        ca = authority.write(folder)
        server = authority.server(folder, names)
        pairs = {name: authority.client(folder, name) for name in clients}
    except (OSError, ValueError) as error:
        raise ConfigError(f"no certificate in {folder}: {error}") from error
    demand = f" --tls-client-ca {ca}" if clients else ""
    where = f" --storage {storage}" if storage else ""
    click.echo(
        f"For {', '.join(names)} and this host's loopback, valid for {days} days. Then:\n\n"
        f"  lrpilot token create NAME --role trainer --project PROJECT{where}\n"
        f"  lrpilot serve --listen 0.0.0.0:50051 --tls-cert {server.cert} "
        f"--tls-key {server.key}{demand}{where}\n\n"
        "and where the training process runs, with a copy of the file:\n\n"
        f"  export LRPILOT_ADDRESS={names[0]}:50051\n"
        f"  export LRPILOT_CA={ca}\n"
        "  export LRPILOT_TOKEN=...   # what `token create` printed"
    )
    for pair in pairs.values():
        click.echo(f"  export LRPILOT_CERT={pair.cert} LRPILOT_KEY={pair.key}")
