"""Flower's Grid without machines: nodes are functions of this process, one after the other.

For trials of strategies and for scaling; what travels is what would travel between machines.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

Node = Callable[[Message], Message | None]


class InProcessGrid(Grid):
    """A grid of functions, by the numbers of their nodes; a function that gives None has not replied.

    Parameters
    ----------
    nodes
        What replies to a message. The mapping may change between rounds, as nodes come and go.
    """

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        # Flower's messages carry whose run they are of.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1
        self.nodes = nodes
        self.carried = 0  # messages, both ways
        self._numbers = itertools.count(1)
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        """Nothing: there is one run."""

    @property
    def run(self) -> Any:
        """None: there is one run."""
        return None

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the nodes that are there."""
        return sorted(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Lets nodes reply; numbers of the messages."""
        numbers = []
        for message in messages:
            number = str(next(self._numbers))
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            node = self.nodes.get(message.metadata.dst_node_id)
            reply = node(message) if node else None
            self.carried += 1 + (reply is not None)
            if reply is not None:
                self._replies[number] = reply
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to messages, each given once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies; nodes that give none have run out of time."""
        del timeout
        return self.pull_messages(self.push_messages(messages))
