"""Runs queries in DuckDB over tables in Parquet files, and prints each result as one line of JSON.

Standard input: {"tables": {"clicks": "/path/clicks.parquet"}, "queries": ["SELECT ..."]}.
"""

import datetime
import decimal
import json
import sys

import duckdb

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    """Returns a value as the test writes those of streamlog."""
    if isinstance(value, datetime.datetime):
        value = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def main():
    task = json.load(sys.stdin)
    connection = duckdb.connect()
    connection.sql("SET TimeZone = 'UTC'")
    for name, path in task["tables"].items():
        connection.sql("CREATE VIEW %s AS SELECT * FROM read_parquet('%s')" % (name, path))
    for query in task["queries"]:
        try:
            rows = connection.sql(query).fetchall()
            print(json.dumps({"rows": [[plain(value) for value in row] for row in rows]}))
        except Exception as error:
            print(json.dumps({"error": str(error)}))


main()
