"""``spindose federate``: training between hospitals; what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import click
import typer

from .console import answer, one_sentence, progress_bar

federate_app = typer.Typer(
    help="Training between hospitals, whose data never leave: server, nodes, studies.", no_args_is_help=True
)

_Node = Annotated[Path, typer.Argument(help="The node's TOML file.")]
_Study = Annotated[Path, typer.Argument(help="The study's TOML file.")]
_Server = Annotated[str, typer.Option(help="The server, as host:port.")]
_Certificate = Annotated[Path, typer.Option(help="Certificate of who vouches for the server (ca.pem).")]
_Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait for the replies of a round.")]
_By = Annotated[str, typer.Option(help="Who does it; the machine's user otherwise.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


_WITH_FLOWER = ("simulate", "server", "node", "run", "register")


@federate_app.callback()
def _begin(context: click.Context) -> None:
    """Training between hospitals, whose data never leave: server, nodes, studies."""
    with one_sentence():
        from importlib.util import find_spec

        if context.invoked_subcommand in _WITH_FLOWER and find_spec("flwr") is None:
            raise ValueError("expected the package flwr, got none; install spindose[federated]")


@federate_app.command()
def simulate(
    study: _Study,
    site: Annotated[
        list[str], typer.Option(help="NAME=FOLDER of patients; several folders of a name are one site.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for keys, logs and the result.")],
    timeout: _Timeout = 3600.0,
    as_json: _Json = False,
) -> None:
    """Try a study on this machine: a server and nodes with TLS and keys, as between hospitals.

    Example: `spindose federate simulate study.toml --site north=A --site south=B --out trial`
    """
    with one_sentence(), progress_bar() as progress:
        from .console import run_folder
        from .federation.deployment import end_orderly
        from .federation.study import read_study
        from .federation.trial import simulate as simulated

        end_orderly()
        sites: dict[str, tuple[Path, ...]] = {}
        for text in site:
            name, equals, folder = text.partition("=")
            if not equals or not folder:
                raise ValueError(f"expected --site NAME=FOLDER, got {text!r}")
            sites[name] = (*sites.get(name, ()), Path(folder))
        report = simulated(read_study(study), sites, run_folder(out, None), progress, timeout)
    last = report["rounds"][-1]
    lines = [
        f"{len(report['rounds'])} rounds of {', '.join(report['sites'])}: {last['errors']}",
        f"{report['bytes_per_round'] / 1e6:.1f} MB and {report['seconds_per_round']:.0f} s a round.",
        *(() if report["privacy"] == "none" else (f"Privacy: {report['privacy']}",)),
        f"Weights, card and report: {out / 'server' / report['digest'][:24]}",
    ]
    answer(report, lines, as_json)


@federate_app.command()
def server(
    folder: Annotated[Path, typer.Argument(help="Keeps its database, its log and the results of studies.")],
    certificates: Annotated[Path, typer.Option(help="Folder of server.pem, server.key and ca.pem.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 # nodes are elsewhere
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve: SuperLink with TLS, for registered nodes alone. Stopped and started, it goes on.

    Example: `spindose federate server federation --certificates certificates`
    """
    with one_sentence():
        from .federation.deployment import end_orderly
        from .federation.deployment import server as serving

        end_orderly()
        with serving(folder, host, port, certificates) as process:
            process.wait()
    raise typer.Exit(process.returncode)


@federate_app.command()
def node(file: _Node) -> None:
    """Answer studies that were approved here; all else is refused, and every message logged.

    Example: `spindose federate node node.toml`
    """
    with one_sentence():
        from .federation.deployment import end_orderly
        from .federation.node_file import read_node
        from .federation.trial import serve

        end_orderly()
        serve(read_node(file))


@federate_app.command()
def fedn(
    file: _Node,
    url: Annotated[str, typer.Option(help="Address of FEDn's controller, with a slash at its end.")],
    token: Annotated[str, typer.Option(help="That FEDn gave this client.", envvar="FEDN_TOKEN")] = "",
    combiner: Annotated[str, typer.Option(help="Name of FEDn's combiner, where there are several.")] = "",
) -> None:
    """Answer studies of a FEDn server, as `node` does Flower's; in an environment without Flower.

    Example: `spindose federate fedn node.toml --url https://fedn.example.org/`
    """
    with one_sentence():
        from .federation.fedn import serve
        from .federation.node_file import read_node

        serve(read_node(file), url, token, combiner)


@federate_app.command("fedn-study")
def fedn_study(
    study: _Study,
    key: Annotated[Path, typer.Option(help="Private Ed25519 key of who asks (PEM).")],
    out: Annotated[Path, typer.Option(help="A new folder for the seed model and server functions.")],
) -> None:
    """Sign a study and make what a session of a FEDn server begins with.

    Example: `spindose federate fedn-study study.toml --key lead.key --out session`
    """
    with one_sentence():
        from .console import run_folder
        from .federation.fedn import FUNCTIONS, SEED, seed_model, server_functions
        from .federation.study import read_study, signed
        from .report.sign import private_key

        asked = read_study(study)
        text = server_functions(asked, signed(asked, private_key(key)))
        folder = run_folder(out, None)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SEED).write_bytes(seed_model(asked).getvalue())
        (folder / FUNCTIONS).write_text(text, encoding="utf-8")
    lines = [f"Made {folder / SEED} and {folder / FUNCTIONS} of {asked.name}, {asked.digest}"]
    answer({"study": asked.digest, "out": str(folder)}, lines, False)


@federate_app.command()
def run(
    study: _Study,
    key: Annotated[Path, typer.Option(help="Private Ed25519 key of who asks (PEM).")],
    server: _Server,
    certificate: _Certificate,
    home: Annotated[Path, typer.Option(help="Keeps what Flower's command keeps.")] = Path("flower"),
    timeout: _Timeout = 3600.0,
) -> None:
    """Sign a study and hand it to the server; handed in again, it goes on with the next round.

    Example: `spindose federate run study.toml --key lead.key --server host:8000 --certificate ca.pem`
    """
    with one_sentence():
        from .federation.deployment import connected, submit
        from .federation.study import read_study, signed
        from .processes import answers
        from .report.sign import private_key

        asked = read_study(study)
        signature = signed(asked, private_key(key))
        answers(server)
        submit(connected(home, server, certificate), asked, signature, timeout)
    answer({"study": asked.digest}, [f"Handed in: {asked.name}, {asked.digest}"], False)


@federate_app.command()
def register(
    name: Annotated[str, typer.Argument(help="What the site chose to be called.")],
    public: Annotated[Path, typer.Argument(help="The node's public key (NAME.pub).")],
    server: _Server,
    certificate: _Certificate,
    home: Annotated[Path, typer.Option(help="Keeps what Flower's command keeps.")] = Path("flower"),
) -> None:
    """Let a node connect to the server.

    Example: `spindose federate register north north.pub --server host:8000 --certificate ca.pem`
    """
    with one_sentence():
        from .federation.deployment import connected
        from .federation.deployment import register as registered
        from .processes import answers

        answers(server)
        registered(connected(home, server, certificate), public, name)
    answer({"registered": name}, [f"Registered: {name}"], False)


@federate_app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Gets the files.")],
    lead: Annotated[str, typer.Option(help="Name of who will ask: a pair to sign studies with.")] = "",
    node: Annotated[str, typer.Option(help="Name of a site: a pair that its node connects with.")] = "",
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of the server: its certificate.")
    ] = None,
) -> None:
    """Make keys and certificates; private ones are readable by you alone.

    Example: `spindose federate keys certificates --host federation.example.org`
    """
    with one_sentence():
        from .federation.keys import lead_keys, node_keys, server_certificate

        made: list[Path] = []
        made += lead_keys(folder, lead) if lead else ()
        made += node_keys(folder, node) if node else ()
        made += server_certificate(folder, host) if host else ()
        if not made:
            raise ValueError("expected --lead, --node or --host, got none of them")
    answer({"made": [str(p) for p in made]}, [f"Made {path}" for path in made], False)


@federate_app.command()
def inspect(file: _Node, study: _Study) -> None:
    """What a study would run at this node and what would leave it.

    Example: `spindose federate inspect node.toml study.toml`
    """
    with one_sentence():
        from .federation.approvals import inspected
        from .federation.node_file import read_node
        from .federation.study import read_study

        lines = inspected(read_node(file), read_study(study))
    answer({}, lines, False)


@federate_app.command()
def approve(
    file: _Node,
    study: _Study,
    why: Annotated[str, typer.Option(help="What shows that it may run here, for the log.")],
    by: _By = "",
) -> None:
    """Let a study run at this node, once and for all its rounds.

    Example: `spindose federate approve node.toml study.toml --why "ethics 2027-14"`
    """
    with one_sentence():
        from .catalogue import somebody
        from .federation.approvals import approve as approved
        from .federation.node_file import read_node
        from .federation.study import read_study

        one = approved(read_node(file), read_study(study), somebody(by), why)
    answer({"approved": one.study}, [f"Approved: {one.name}, {one.study}"], False)


@federate_app.command()
def withdraw(
    file: _Node,
    digest: Annotated[str, typer.Argument(help="The first characters of the study's hash.")],
    by: _By = "",
) -> None:
    """Let a study run no more at this node.

    Example: `spindose federate withdraw node.toml 3f2a`
    """
    with one_sentence():
        from .catalogue import somebody
        from .federation.approvals import withdraw as withdrawn
        from .federation.node_file import read_node

        one = withdrawn(read_node(file), digest, somebody(by))
    answer({"withdrawn": one.study}, [f"Withdrawn: {one.name}, {one.study}"], False)


@federate_app.command()
def personalise(
    file: _Node,
    study: _Study,
    weights: Annotated[Path, typer.Argument(help="Weights that the study gave, with their card.")],
    out: Annotated[Path, typer.Option(help="A new folder for this site's own weights and card.")],
    layers: Annotated[str, typer.Option(help="What is taught: all, last, or norms.")] = "all",
    steps: Annotated[int, typer.Option(min=1, help="At the most.")] = 400,
    look: Annotated[int, typer.Option(min=1, help="Steps between looks at held-out patients.")] = 40,
    patience: Annotated[int, typer.Option(min=1, help="Looks without improvement before it stops.")] = 4,
    as_json: _Json = False,
) -> None:
    """Teach a study's model on, on this site's patients and for this site alone; nothing leaves.

    Example: `spindose federate personalise node.toml study.toml dose.safetensors --out ours`
    """
    with one_sentence(), progress_bar() as progress:
        from .console import run_folder
        from .federation.node_file import read_node
        from .federation.personal import Personal
        from .federation.personal import personalise as personalised
        from .federation.study import read_study

        how = Personal(steps, look, patience, layers)
        folder = run_folder(out, None)
        found = personalised(read_node(file), read_study(study), weights, how, folder, progress)
    lines = [
        f"Held-out patients before: {found['before']}",
        f"Held-out patients after {found['steps']} steps: {found['after']}",
        f"Weights and card: {found['weights']}",
    ]
    answer(found, lines, as_json)


@federate_app.command()
def audit(file: _Node, as_json: _Json = False) -> None:
    """Every message of this node, with size and hash, once the log is seen to be whole.

    Example: `spindose federate audit node.toml`
    """
    with one_sentence():
        from dataclasses import asdict

        from .federation.audit import lines_of
        from .federation.node_file import read_node

        found = lines_of(read_node(file).log)
    lines = [
        f"{x.at}  {x.way:<4}  {x.kind:<9}  {x.size:>9} B  {x.sha256[:12]:<12}  {x.verdict}" for x in found
    ]
    answer({"lines": [asdict(x) for x in found]}, lines or ["Nothing yet."], as_json)
