"""FEDn's own command on a SQLite store: ``server.py controller start``, ``hooks start``, ``combiner start``.

FEDn 0.33 hands its SQL store texts where columns are of times and truths, and nothing where they want
something; and both workers of its controller make the tables, of whom the later one fails. The first two are
let through here, and the tables made before there are workers; all else is FEDn as it is.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean
from sqlalchemy.dialects.sqlite.base import DATETIME

_TRUTH = {"True": True, "False": False}


def _read_first(kind: Any, read: Any) -> None:
    """Reads texts before a kind of column is given them."""
    own = kind.bind_processor

    def processor(self: Any, dialect: Any) -> Any:
        inner = own(self, dialect) or (lambda value: value)
        return lambda value: inner(read(value) if isinstance(value, str) else value)

    kind.bind_processor = processor


_read_first(DATETIME, datetime.fromisoformat)
_read_first(Boolean, _TRUTH.get)

from fedn.cli import combiner_cmd, controller_cmd, hooks_cmd  # noqa: E402, F401 # they add themselves
from fedn.cli.main import main  # noqa: E402
from fedn.common.config import get_network_config, get_statestore_config  # noqa: E402
from fedn.network.storage.dbconnection import DatabaseConnection  # noqa: E402
from fedn.network.storage.statestore.stores.sql.shared import MyAbstractBase  # noqa: E402

for table in MyAbstractBase.metadata.tables.values():
    for column in table.columns:
        column.nullable = not column.primary_key

DatabaseConnection(get_statestore_config(), get_network_config())  # makes them
main()
