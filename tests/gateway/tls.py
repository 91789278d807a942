"""boto3 by HTTPS: with our certificate, without it, and with another name than the certificate's.

    python tls.py URL DIRECTORY
"""

import sys

from botocore.exceptions import SSLError
from common import client, finish, until_active

url, directory = sys.argv[1:]
chain = f"{directory}/chain.pem"
kinesis = client(url, verify=chain)
kinesis.create_stream(StreamName="secure", ShardCount=1)
until_active(kinesis, "secure")
data = bytes(range(256)) * 4_000
put = kinesis.put_record(StreamName="secure", Data=data, PartitionKey="a")
iterator = kinesis.get_shard_iterator(StreamName="secure", ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON")
(record,) = kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
assert record["Data"] == data and record["SequenceNumber"] == put["SequenceNumber"]

stream = kinesis.describe_stream_summary(StreamName="secure")["StreamDescriptionSummary"]["StreamARN"]
consumer = kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="c")["Consumer"]["ConsumerARN"]
while kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
    pass
position = {"ShardId": put["ShardId"], "StartingPosition": {"Type": "TRIM_HORIZON"}}
events = kinesis.subscribe_to_shard(ConsumerARN=consumer, **position)["EventStream"]
event = next(iter(events))["SubscribeToShardEvent"]
assert [record["Data"] for record in event["Records"]] == [data]
events.close()

for what, wrong in (
    ("nobody has signed the certificate", client(url)),
    ("the certificate is for another name", client(url.replace("localhost", "127.0.0.1"), verify=chain)),
):
    try:
        wrong.list_streams()
    except SSLError:
        continue
    raise AssertionError(f"{what}, and the client speaks to the server")
finish(refused_connections=2)
