"""The node's side of Flower: every message passes the gate, and comes back as an answer or a refusal."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from .gate import Refusal, RefusedError
from .node import answered
from .node_file import NodeFile
from .records import asked_by, refuse, reply_with


def replied(message: Message, node: NodeFile) -> Message:
    """The reply to a message of any kind; nothing that goes wrong tells more than a code.

    Parameters
    ----------
    message
        As Flower brought it.
    node
        The hospital's settings.
    """
    try:
        return reply_with(answered(asked_by(message), node), message)
    except RefusedError as error:
        return refuse(error.code, message)
    except Exception:  # noqa: BLE001 # Flower would send its text to the server
        return refuse(Refusal.FAILED, message)


def client_app(node: NodeFile) -> ClientApp:
    """A node as Flower's ClientApp, for what runs those in its own process."""
    app = ClientApp()

    def reply(message: Message, _: Context) -> Message:
        return replied(message, node)

    for register in (app.train, app.evaluate, app.query):
        register()(reply)
    return app
