"""A run's tables as Parquet files, written by DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.reports.parquet_tables import FLAG, REAL, REALS, TEXTS, WHOLE, Table, tables_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lossfuzz.harness.results.run import RunResult


class MissingExtraError(RuntimeError):
    """A library that an export needs is not installed; the message says how to get it."""


def write(result: RunResult, folder: Path) -> list[Path]:
    """Write every table into a folder, which is made; returns the files.

    Floats keep their bits, infinities, NaN and negative zeros included.

    Raises:
        MissingExtraError: DuckDB is not installed.
        OSError: a file cannot be written.
    """
    duckdb = _duckdb()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with duckdb.connect() as connection:
        for table in tables_of(result):
            path = folder / f"{table.name}.parquet"
            try:
                _copy(connection, table, path)
            except duckdb.IOException as error:
                raise OSError(0, str(error).partition("\n")[0]) from None
            written.append(path)
    return written


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("Parquet needs DuckDB: pip install 'lossfuzz[parquet]'") from None
    return duckdb


def _copy(connection: Any, table: Table, path: Path) -> None:
    """Write one table, given to DuckDB as NumPy arrays: a list's values in an array of their own.

    DuckDB takes a NaN of an array for a missing value, so floats travel as the integers of the
    same bits.
    """
    columns: dict[str, NDArray[Any]] = {"row_number": np.arange(len(table.rows))}
    selected, joins = [], []
    for number, (name, sql) in enumerate(table.types.items()):
        values = [row[name] for row in table.rows]
        if sql in (TEXTS, REALS):
            connection.register(f"list_{number}", _flattened(values, sql))
            joins.append(
                f"LEFT JOIN (SELECT row_number, list({_read('value', sql)} ORDER BY place) "  # noqa: S608
                f'AS "{name}" FROM list_{number} GROUP BY row_number) '
                f"AS list_{number} USING (row_number)"
            )
            columns[f"{name}_known"] = np.array([value is not None for value in values], np.bool_)
            selected.append(
                f'CASE WHEN "{name}_known" THEN coalesce(list_{number}."{name}", []) END::{sql} '
                f'AS "{name}"'
            )
        else:
            columns[name] = _array(values, sql)
            columns[f"{name}_known"] = np.array([value is not None for value in values], np.bool_)
            read = _read(f'scalars."{name}"', sql)
            selected.append(f'CASE WHEN "{name}_known" THEN {read} END::{sql} AS "{name}"')
    connection.register("scalars", columns)
    connection.execute(
        f"COPY (SELECT {', '.join(selected)} FROM scalars {' '.join(joins)} "  # noqa: S608
        f"ORDER BY row_number) TO {_quoted(path)} (FORMAT parquet, COMPRESSION zstd)"
    )


def _flattened(values: list[Any], sql: str) -> dict[str, NDArray[Any]]:
    lengths = [len(value or ()) for value in values]
    flat = [one for value in values for one in value or ()]
    return {
        "row_number": np.repeat(np.arange(len(values)), lengths),
        "place": np.concatenate([np.arange(length) for length in lengths] or [np.arange(0)]),
        "value": _array(flat, sql.removesuffix("[]")),
    }


def _array(values: list[Any], sql: str) -> NDArray[Any]:
    if sql == REAL:
        return np.array([0.0 if one is None else one for one in values], np.float64).view(np.int64)
    if sql == WHOLE:
        return np.array([one or 0 for one in values], np.int64)
    if sql == FLAG:
        return np.array([bool(one) for one in values], np.bool_)
    return np.array(["" if one is None else one for one in values], np.object_)


def _read(value: str, sql: str) -> str:
    """A value of an array as what it is."""
    return f"{value}::BIT::DOUBLE" if sql in (REAL, REALS) else value


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
