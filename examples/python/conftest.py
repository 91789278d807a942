"""A fixture for tests of code that uses Kinesis: a real server, a new one for each test session.

    def test_what_is_put_is_read(kinesis):
        kinesis.create_stream(StreamName="clicks", ShardCount=1)
        kinesis.put_record(StreamName="clicks", PartitionKey="a", Data=b"hello")
"""

import pytest

from gateway import Gateway


@pytest.fixture(scope="session")
def gateway():
    """A server for all tests, in which streams come and go at once."""
    with Gateway() as running:
        yield running


@pytest.fixture
def kinesis(gateway):
    """A client of that server. The streams that the test leaves behind are deleted after it."""
    client = gateway.client()
    yield client
    for page in client.get_paginator("list_streams").paginate():
        for name in page["StreamNames"]:
            client.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
