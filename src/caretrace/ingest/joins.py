"""A table beside those it joins, and what formulas call their columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from caretrace.ingest.mapping import QUANTITY_UNIT, QUANTITY_VALUE, SourceMapping, Table, ValueTable, View


def joined(
    table: Table | View,
    rows: Mapping[str, Any],
    mapping: SourceMapping,
    only: Collection[str] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The rows of `table` beside those of the tables it joins, and the name of every column in formulas.

    Args:
        table: Table or view.
        rows: Name → Ibis expression of it and of every table it joins.
        mapping: The source.
        only: The tables to join; None takes all that the mapping joins.

    Returns:
        One row per row of `table`, and column name in a formula → Ibis column.
    """
    others: Mapping[str, Table | View | ValueTable] = {**mapping.tables, **mapping.views, **mapping.values}
    found = rows[table.name]
    own = [column for column in table.names if column in found.columns]
    joins = {name: columns for name, columns in table.joins.items() if only is None or name in only}
    for name, columns in joins.items():
        other = others[name]
        read = [column for column in other.names if column not in (QUANTITY_VALUE, QUANTITY_UNIT)]
        side = rows[name].select(**{f"{name}.{column}": rows[name][column] for column in read})
        equal = [
            found[ours] == side[f"{name}.{theirs}"] for ours, theirs in zip(columns, other.key, strict=True)
        ]
        found = found.left_join(side, equal)
    # Ibis takes columns of an open join for those of another table, so it is closed here.
    found = found.select(*found.columns)
    names = {column: found[column] for column in own}
    for name in joins:
        read = [column for column in others[name].names if f"{name}.{column}" in found.columns]
        names |= {f"{name}.{column}": found[f"{name}.{column}"] for column in read}
    return found, names
