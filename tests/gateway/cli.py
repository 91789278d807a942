"""Every operation that the AWS CLI has, each once.

    python cli.py URL

Each call has a stream of its own, so that several can run at the same time: starting the CLI is what takes long.
"""

import base64
import concurrent.futures
import json
import os
import re
import subprocess
import sys

import awscli.botocore.session
from botocore import xform_name
from common import ACCOUNT, REGION, client, finish, until_active

URL = sys.argv[1]
# The CLI has its own model, which may be older than that of boto3, and no command for operations that return events.
OPERATIONS = set(awscli.botocore.session.get_session().get_service_model("kinesis").operation_names) - {"SubscribeToShard"}
kinesis = client(URL, attempts=3)
arn_of = lambda stream: f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"
stream_of = lambda operation: "cli-" + xform_name(operation, "-")


def aws(operation, *arguments):
    """Runs the command of an operation. Returns what it answers, or the code of the error."""
    command = [sys.executable, "-B", "-m", "awscli", "--endpoint-url", URL, "--region", REGION, "--output", "json"]
    command += ["kinesis", xform_name(operation, "-"), *arguments]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_PAGER": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode == 0:
        return json.loads(done.stdout) if done.stdout.strip() else None
    error = re.search(rf"An error occurred \((\w+)\) when calling the {operation} operation", done.stderr)
    assert error, f"{operation}: {done.returncode}: {done.stderr}"
    return error.group(1)


def described(operation):
    return kinesis.describe_stream_summary(StreamName=stream_of(operation))["StreamDescriptionSummary"]


def commands():
    """Returns for each operation the arguments of its command, and a check of the answer."""
    table = {}

    def add(operation, arguments, check):
        table[operation] = (arguments, check)

    def on_stream(operation, *arguments, by_arn=False, check):
        stream = stream_of(operation)
        name = ["--stream-arn", arn_of(stream)] if by_arn else ["--stream-name", stream]
        add(operation, [*name, *arguments], check)

    nothing = lambda then: lambda answer: answer is None and then()
    resource = lambda operation: ["--resource-arn", arn_of(stream_of(operation))]
    iterator = lambda operation: kinesis.get_shard_iterator(
        StreamName=stream_of(operation), ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    tags_of = lambda operation: kinesis.list_tags_for_stream(StreamName=stream_of(operation))["Tags"]
    consumers_of = lambda operation: kinesis.list_stream_consumers(StreamARN=arn_of(stream_of(operation)))["Consumers"]
    tag = {"Key": "a", "Value": "b"}

    on_stream(
        "CreateStream", "--shard-count", "2", check=nothing(lambda: until_active(kinesis, stream_of("CreateStream")) is None)
    )
    on_stream("DeleteStream", check=nothing(lambda: described_is_gone("DeleteStream")))
    on_stream("DescribeStream", check=lambda answer: len(answer["StreamDescription"]["Shards"]) == 2)
    on_stream("DescribeStreamSummary", check=lambda answer: answer["StreamDescriptionSummary"]["OpenShardCount"] == 2)
    add("ListStreams", [], lambda answer: stream_of("PutRecord") in answer["StreamNames"])
    on_stream("ListShards", check=lambda answer: len(answer["Shards"]) == 2)
    data = base64.b64encode(b"hello").decode()
    on_stream("PutRecord", "--data", data, "--partition-key", "a", check=lambda answer: answer["ShardId"].endswith("0"))
    entry = {"Data": data, "PartitionKey": "a"}
    on_stream("PutRecords", "--records", json.dumps([entry]), check=lambda answer: answer["FailedRecordCount"] == 0)
    position = ["--shard-id", "shardId-000000000000", "--shard-iterator-type", "LATEST"]
    on_stream("GetShardIterator", *position, check=lambda answer: answer["ShardIterator"])
    kinesis.put_record(StreamName=stream_of("GetRecords"), Data=b"hello", PartitionKey="a")
    add(
        "GetRecords", ["--shard-iterator", iterator("GetRecords")],
        lambda answer: [record["Data"] for record in answer["Records"]] == [data],
    )
    open_is = lambda operation, count: lambda: described(operation)["OpenShardCount"] == count
    split = ["--shard-to-split", "0", "--new-starting-hash-key", "99"]
    on_stream("SplitShard", *split, check=nothing(open_is("SplitShard", 3)))
    merge = ["--shard-to-merge", "0", "--adjacent-shard-to-merge", "1"]
    on_stream("MergeShards", *merge, check=nothing(open_is("MergeShards", 1)))
    count = ["--target-shard-count", "4", "--scaling-type", "UNIFORM_SCALING"]
    on_stream("UpdateShardCount", *count, check=lambda answer: answer["TargetShardCount"] == 4)
    hours = lambda operation: lambda: described(operation)["RetentionPeriodHours"] == 30
    for operation in ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"):
        on_stream(operation, "--retention-period-hours", "30", check=nothing(hours(operation)))
    mode = ["--stream-mode-details", "StreamMode=ON_DEMAND"]
    on_stream(
        "UpdateStreamMode", *mode, by_arn=True,
        check=nothing(lambda: described("UpdateStreamMode")["StreamModeDetails"]["StreamMode"] == "ON_DEMAND"),
    )
    on_stream(
        "UpdateMaxRecordSize", "--max-record-size-in-ki-b", "2048", by_arn=True,
        check=nothing(lambda: described("UpdateMaxRecordSize")["MaxRecordSizeInKiB"] == 2_048),
    )
    on_stream("UpdateStreamWarmThroughput", "--warm-throughput-mi-bps", "9", check=lambda answer: answer == "ValidationException")
    on_stream("AddTagsToStream", "--tags", "a=b", check=nothing(lambda: tags_of("AddTagsToStream") == [tag]))
    on_stream("RemoveTagsFromStream", "--tag-keys", "a", check=nothing(lambda: tags_of("RemoveTagsFromStream") == []))
    on_stream("ListTagsForStream", check=lambda answer: answer["Tags"] == [tag])
    add("TagResource", [*resource("TagResource"), "--tags", "a=b"], nothing(lambda: tags_of("TagResource") == [tag]))
    add("UntagResource", [*resource("UntagResource"), "--tag-keys", "a"], nothing(lambda: tags_of("UntagResource") == []))
    add("ListTagsForResource", resource("ListTagsForResource"), lambda answer: answer["Tags"] == [tag])
    for operation in ("RemoveTagsFromStream", "ListTagsForStream", "UntagResource", "ListTagsForResource"):
        kinesis.add_tags_to_stream(StreamName=stream_of(operation), Tags={"a": "b"})
    metrics = ["--shard-level-metrics", "IncomingBytes"]
    on_stream("EnableEnhancedMonitoring", *metrics, check=lambda answer: answer["DesiredShardLevelMetrics"] == ["IncomingBytes"])
    on_stream("DisableEnhancedMonitoring", *metrics, check=lambda answer: answer["DesiredShardLevelMetrics"] == [])
    key = ["--encryption-type", "KMS", "--key-id", "alias/aws/kinesis"]
    kind = lambda operation, kind: lambda: described(operation)["EncryptionType"] == kind
    on_stream("StartStreamEncryption", *key, check=nothing(kind("StartStreamEncryption", "KMS")))
    on_stream("StopStreamEncryption", *key, check=nothing(kind("StopStreamEncryption", "NONE")))

    on_stream("RegisterStreamConsumer", "--consumer-name", "c", by_arn=True, check=lambda answer: answer["Consumer"]["ConsumerName"] == "c")
    consumers = ("DeregisterStreamConsumer", "DescribeStreamConsumer", "ListStreamConsumers")
    registered = {}
    for operation in consumers:
        consumer = kinesis.register_stream_consumer(StreamARN=arn_of(stream_of(operation)), ConsumerName="c")["Consumer"]
        registered[operation] = ["--consumer-arn", consumer["ConsumerARN"]]
    gone = lambda: all(one["ConsumerStatus"] == "DELETING" for one in consumers_of(consumers[0]))
    add(consumers[0], registered[consumers[0]], nothing(gone))
    add(consumers[1], registered[consumers[1]], lambda answer: answer["ConsumerDescription"]["ConsumerName"] == "c")
    on_stream(consumers[2], by_arn=True, check=lambda answer: len(answer["Consumers"]) == 1)

    add("DescribeLimits", [], lambda answer: answer["OpenShardCount"] > 0)
    disabled = lambda answer: answer["MinimumThroughputBillingCommitment"]["Status"] == "DISABLED"
    add("DescribeAccountSettings", [], disabled)
    add("UpdateAccountSettings", ["--minimum-throughput-billing-commitment", "Status=DISABLED"], disabled)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "kinesis:PutRecord"}
    for operation in ("PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy"):
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Resource": arn_of(stream_of(operation))}]})
        if operation == "PutResourcePolicy":
            has = lambda: "PutRecord" in kinesis.get_resource_policy(ResourceARN=arn_of(stream_of("PutResourcePolicy")))["Policy"]
            add(operation, [*resource(operation), "--policy", policy], nothing(has))
        else:
            kinesis.put_resource_policy(ResourceARN=arn_of(stream_of(operation)), Policy=policy)
    add("GetResourcePolicy", resource("GetResourcePolicy"), lambda answer: "PutRecord" in answer["Policy"])
    has_none = lambda: kinesis.get_resource_policy(ResourceARN=arn_of(stream_of("DeleteResourcePolicy")))["Policy"] == "{}"
    add("DeleteResourcePolicy", resource("DeleteResourcePolicy"), nothing(has_none))
    return table


def described_is_gone(operation):
    try:
        return described(operation)["StreamStatus"] == "DELETING"
    except kinesis.exceptions.ResourceNotFoundException:
        return True


for operation in OPERATIONS - {"CreateStream"}:
    kinesis.create_stream(StreamName=stream_of(operation), ShardCount=2)
for operation in OPERATIONS - {"CreateStream"}:
    until_active(kinesis, stream_of(operation))
kinesis.increase_stream_retention_period(StreamName=stream_of("DecreaseStreamRetentionPeriod"), RetentionPeriodHours=100)
until_active(kinesis, stream_of("DecreaseStreamRetentionPeriod"))
table = commands()
assert set(table) == OPERATIONS, set(table) ^ OPERATIONS
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    answers = dict(zip(table, pool.map(lambda operation: aws(operation, *table[operation][0]), table)))
for operation, answer in answers.items():
    assert table[operation][1](answer), f"{operation} answers {answer}"
finish(operations=len(answers))
