"""The fixture, used as a test of your own would use it."""


def test_what_is_put_is_read(kinesis):
    kinesis.create_stream(StreamName="clicks", ShardCount=1)
    kinesis.put_record(StreamName="clicks", PartitionKey="a", Data=b"hello")
    iterator = kinesis.get_shard_iterator(
        StreamName="clicks", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]] == [b"hello"]


def test_no_test_sees_the_streams_of_another(kinesis):
    assert kinesis.list_streams()["StreamNames"] == []
