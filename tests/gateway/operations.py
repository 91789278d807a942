"""Every operation by boto3, with every member of its request, and every member of its answer looked at.

    python operations.py URL URL_WITH_LIMITS

The answers are checked twice: as they lie on the wire, against the service model, and as botocore parses them. At the end, no
operation may be left, and no member of a request or an answer, except for those of `NEVER`.
"""

import datetime
import json
import re
import sys
import time

from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError
from common import ACCOUNT, FORM, REGION, Raw, client, finish, service_model, until, until_active

import shapes

MODEL = service_model()
HASH_KEYS = 2**128
# Errors that this server never returns, with the reason.
NEVER = {
    "DescribeStreamSummary.StreamDescriptionSummary.StreamId": "clients need it for routing only",
    "DescribeStreamSummary.StreamDescriptionSummary.WarmThroughput": "the account has no commitment",
    "UpdateStreamWarmThroughput": "the account has no commitment, so it fails",
    **{
        f"{operation}AccountSettings.MinimumThroughputBillingCommitment.{member}": "there is no commitment"
        for operation in ("Describe", "Update")
        for member in ("StartedAt", "EndedAt", "EarliestAllowedEndAt")
    },
    "SubscribeToShard.EventStream": "events are looked at one by one",
    "ListChannels.ChannelSummaries[]": "there are no channels",
    "ListChannels.NextToken": "there are no channels",
    **{name: "there are no channels" for name in MODEL.operation_names if re.search(r"Channel(?!s$)", name)},
}
# Requests that this client cannot send to this server: with a StreamId, botocore goes to AWS, whatever its endpoint is.
NEVER_SENT = re.compile(r"\.StreamId$")
# Any operation may return these, though the model does not list them.
COMMON_ERRORS = {"ValidationException", "SerializationException"}

sent, answered, errors, called = set(), set(), set(), set()


def observe(kinesis):
    """Notes what the client sends and gets, and checks what it gets against the model."""

    def note_request(params, model, **_):
        called.add(model.name)
        sent.update(shapes.members_in(params, model.input_shape, model.name))

    def note_answer(response_dict, **_):
        name = current["name"]
        shape = MODEL.operation_model(name).output_shape
        if response_dict is None or response_dict["status_code"] != 200 or name == "SubscribeToShard":
            return
        body = response_dict["body"]
        if shape is None:
            assert body == b"", f"{name} answers {body!r} instead of nothing"
            return
        value = json.loads(body)
        shapes.check(value, shape, name)
        answered.update(shapes.members_in(value, shape, name))

    def note_name(model, **_):
        current["name"] = model.name

    kinesis.meta.events.register("provide-client-params.kinesis.*", note_request)
    kinesis.meta.events.register("before-call.kinesis.*", note_name)
    kinesis.meta.events.register("response-received.kinesis.*", note_answer)
    return kinesis


# The operation that is being called.
current = {}
kinesis = observe(client(sys.argv[1]))
limited = observe(client(sys.argv[2]))


def refused(code, call, **params):
    """Makes a call that has to fail, and returns the text of the error."""
    try:
        call(**params)
    except ClientError as error:
        got = error.response["Error"]
        assert got["Code"] == code, f"{error.operation_name}: {got} instead of {code}"
        declared = {shape.name for shape in MODEL.operation_model(error.operation_name).error_shapes}
        assert code in declared | COMMON_ERRORS, f"{error.operation_name} may not answer {code}"
        assert error.response["ResponseMetadata"]["RequestId"]
        errors.add((error.operation_name, code))
        return got["Message"]
    raise AssertionError(f"no {code}")


def arn_of(stream):
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"


def all_names(stream):
    return {"StreamName": stream, "StreamARN": arn_of(stream)}


def summary_of(stream):
    return kinesis.describe_stream_summary(**all_names(stream))["StreamDescriptionSummary"]


def create(stream, shards=1, **more):
    kinesis.create_stream(StreamName=stream, ShardCount=shards, **more)
    until_active(kinesis, stream)
    return arn_of(stream)


def iterator_of(stream, shard="shardId-000000000000", kind="TRIM_HORIZON", **more):
    answer = kinesis.get_shard_iterator(**all_names(stream), ShardId=shard, ShardIteratorType=kind, **more)
    return answer["ShardIterator"]


def data_from(stream, shard="shardId-000000000000", kind="TRIM_HORIZON", **more):
    answer = kinesis.get_records(ShardIterator=iterator_of(stream, shard, kind, **more))
    return [record["Data"] for record in answer["Records"]]


def life_of_streams():
    # Nothing exists, and the paginators and the waiter report that.
    assert kinesis.list_streams()["StreamNames"] == []
    text = refused("ResourceNotFoundException", kinesis.describe_stream, StreamName="life")
    assert text == f"Stream life under account {ACCOUNT} not found."
    kinesis.get_waiter("stream_not_exists").wait(StreamName="life", WaiterConfig={"Delay": 1, "MaxAttempts": 2})

    tags = {"team": "blue", "Größe": "klein + fein"}
    kinesis.create_stream(
        StreamName="life",
        ShardCount=3,
        StreamModeDetails={"StreamMode": "PROVISIONED"},
        Tags=tags,
        MaxRecordSizeInKiB=2_048,
        RecordDistributionStrategy="USER_PARTITION_KEY",
    )
    description = kinesis.describe_stream(StreamName="life")["StreamDescription"]
    assert (description["StreamStatus"] == "CREATING") == (description["Shards"] == []), description
    kinesis.get_waiter("stream_exists").wait(StreamName="life", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    assert refused("ResourceInUseException", kinesis.create_stream, StreamName="life", ShardCount=1) == (
        f"Stream life under account {ACCOUNT} already exists."
    )

    description = kinesis.describe_stream(**all_names("life"), Limit=100)["StreamDescription"]
    created = description["StreamCreationTimestamp"]
    assert abs(time.time() - created.timestamp()) < 60
    shards = description.pop("Shards")
    assert description == {
        "StreamName": "life",
        "StreamARN": arn_of("life"),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "HasMoreShards": False,
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": created,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }
    assert summary_of("life") == {
        **{name: value for name, value in description.items() if name != "HasMoreShards"},
        "OpenShardCount": 3,
        "ConsumerCount": 0,
        "MaxRecordSizeInKiB": 2_048,
        "ChannelCount": 0,
        "QueueCount": 0,
        "RecordDistributionStrategy": "USER_PARTITION_KEY",
    }
    width = HASH_KEYS // 3
    ranges = [(0, width - 1), (width, 2 * width - 1), (2 * width, HASH_KEYS - 1)]
    for number, (shard, (start, end)) in enumerate(zip(shards, ranges, strict=True)):
        number_range = shard.pop("SequenceNumberRange")
        assert re.fullmatch(r"[1-9]\d{55}", number_range["StartingSequenceNumber"]), number_range
        assert "EndingSequenceNumber" not in number_range
        hash_keys = {"StartingHashKey": str(start), "EndingHashKey": str(end)}
        assert shard == {"ShardId": f"shardId-{number:012}", "HashKeyRange": hash_keys}

    page = kinesis.describe_stream(StreamName="life", Limit=1, ExclusiveStartShardId="shardId-000000000000")
    page = page["StreamDescription"]
    assert [shard["ShardId"] for shard in page["Shards"]] == ["shardId-000000000001"] and page["HasMoreShards"]
    pages = kinesis.get_paginator("describe_stream").paginate(StreamName="life", PaginationConfig={"PageSize": 1})
    pages = [[shard["ShardId"] for shard in page["StreamDescription"]["Shards"]] for page in pages]
    assert pages == [[f"shardId-{number:012}"] for number in range(3)]

    # Both names must mean the same stream.
    refused("InvalidArgumentException", kinesis.describe_stream, StreamName="life", StreamARN=arn_of("other"))
    refused("InvalidArgumentException", kinesis.describe_stream)

    names = [f"listed-{number}" for number in range(4)]
    for name in names:
        create(name)
    listed = kinesis.list_streams(Limit=2, ExclusiveStartStreamName="life")
    assert listed["StreamNames"] == names[:2] and listed["HasMoreStreams"]
    assert [one["StreamName"] for one in listed["StreamSummaries"]] == names[:2]
    description = summary_of(names[0])
    for name, value in listed["StreamSummaries"][0].items():
        assert description[name] == value, name
    listed = kinesis.list_streams(NextToken=listed["NextToken"], Limit=2)
    assert listed["StreamNames"] == names[2:] and not listed["HasMoreStreams"] and "NextToken" not in listed
    pages = kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2})
    assert [name for page in pages for name in page["StreamNames"]] == ["life", *names]

    kinesis.delete_stream(**all_names(names[0]), EnforceConsumerDeletion=False)
    for name in names[1:]:
        kinesis.delete_stream(StreamARN=arn_of(name))
    for name in names:
        waiter = {"Delay": 0.1, "MaxAttempts": 100}
        kinesis.get_waiter("stream_not_exists").wait(StreamName=name, WaiterConfig=waiter)
    assert kinesis.list_streams()["StreamNames"] == ["life"]


def tags():
    stream, arn = "life", arn_of("life")
    tags = lambda **more: {tag["Key"]: tag["Value"] for tag in kinesis.list_tags_for_stream(StreamName=stream, **more)["Tags"]}
    assert tags() == {"Größe": "klein + fein", "team": "blue"}
    kinesis.add_tags_to_stream(**all_names(stream), Tags={"team": "red", "a": ""})
    page = kinesis.list_tags_for_stream(**all_names(stream), Limit=1)
    assert page["Tags"] == [{"Key": "Größe", "Value": "klein + fein"}] or page["Tags"] == [{"Key": "a", "Value": ""}]
    assert page["HasMoreTags"]
    rest = kinesis.list_tags_for_stream(StreamName=stream, ExclusiveStartTagKey=page["Tags"][0]["Key"])
    assert len(rest["Tags"]) == 2 and not rest["HasMoreTags"]
    kinesis.remove_tags_from_stream(**all_names(stream), TagKeys=["a", "unknown"])
    assert tags() == {"Größe": "klein + fein", "team": "red"}
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="tagged", Tags={"of": "it"})
    for resource in (arn, consumer["Consumer"]["ConsumerARN"]):
        kinesis.tag_resource(ResourceARN=resource, Tags={"by": "arn"})
        found = kinesis.list_tags_for_resource(ResourceARN=resource)["Tags"]
        assert {"Key": "by", "Value": "arn"} in found, found
        kinesis.untag_resource(ResourceARN=resource, TagKeys=["by"])
        found = kinesis.list_tags_for_resource(ResourceARN=resource)["Tags"]
        assert {tag["Key"] for tag in found} == ({"of"} if resource != arn else {"Größe", "team"}), found
    refused("InvalidArgumentException", kinesis.add_tags_to_stream, StreamName=stream, Tags={"100%": "x"})
    refused("ResourceNotFoundException", kinesis.tag_resource, ResourceARN=arn_of("nobody"), Tags={"a": "b"})


def records():
    create("records", 2)
    first = kinesis.put_record(**all_names("records"), Data=b"\x00\xff first", PartitionKey="a", ExplicitHashKey="0")
    assert first["ShardId"] == "shardId-000000000000" and re.fullmatch(r"\d{56}", first["SequenceNumber"])
    assert first.get("EncryptionType", "NONE") == "NONE"
    second = kinesis.put_record(
        StreamARN=arn_of("records"), Data=b"", PartitionKey="ключ", SequenceNumberForOrdering=first["SequenceNumber"],
        ExplicitHashKey="1",
    )
    assert int(second["SequenceNumber"]) > int(first["SequenceNumber"])
    # MD5 decides where there is no hash key: these two are known vectors.
    assert kinesis.put_record(StreamName="records", Data=b"a", PartitionKey="a")["ShardId"] == "shardId-000000000000"
    assert kinesis.put_record(StreamName="records", Data=b"b", PartitionKey="b")["ShardId"] == "shardId-000000000001"
    entries = [
        {"Data": b"low", "PartitionKey": "x", "ExplicitHashKey": "0"},
        {"Data": b"high", "PartitionKey": "x", "ExplicitHashKey": str(HASH_KEYS - 1)},
        {"Data": b"low again", "PartitionKey": "x", "ExplicitHashKey": "7"},
    ]
    answer = kinesis.put_records(**all_names("records"), Records=entries)
    assert answer["FailedRecordCount"] == 0
    assert [record["ShardId"][-1] for record in answer["Records"]] == ["0", "1", "0"]
    numbers = [int(record["SequenceNumber"]) for record in answer["Records"]]
    assert numbers[0] < numbers[2]

    answer = kinesis.get_records(
        ShardIterator=iterator_of("records"), Limit=2, StreamARN=arn_of("records")
    )
    record, other = answer["Records"]
    arrived = record.pop("ApproximateArrivalTimestamp")
    assert abs(time.time() - arrived.timestamp()) < 60
    assert record == {"SequenceNumber": first["SequenceNumber"], "Data": b"\x00\xff first", "PartitionKey": "a"}
    assert (other["Data"], other["PartitionKey"]) == (b"", "ключ")
    assert "ChildShards" not in answer
    rest = kinesis.get_records(ShardIterator=answer["NextShardIterator"])
    assert [record["Data"] for record in rest["Records"]] == [b"a", b"low", b"low again"]
    assert rest["MillisBehindLatest"] == 0
    end = kinesis.get_records(ShardIterator=rest["NextShardIterator"])
    assert end["Records"] == [] and end["NextShardIterator"] != rest["NextShardIterator"]
    # An iterator is a value: it may be used again, also in quotes.
    again = kinesis.get_records(ShardIterator='"%s"' % answer["NextShardIterator"])
    assert [record["Data"] for record in again["Records"]] == [b"a", b"low", b"low again"]

    number = second["SequenceNumber"]
    everything = [b"\x00\xff first", b"", b"a", b"low", b"low again"]
    assert data_from("records", kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=number) == everything[1:]
    assert data_from("records", kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=number) == everything[2:]
    assert data_from("records", kind="AT_TIMESTAMP", Timestamp=arrived) == everything
    assert data_from("records", kind="AT_TIMESTAMP", Timestamp=datetime.datetime(2020, 1, 1)) == everything
    latest = iterator_of("records", kind="LATEST")
    kinesis.put_record(StreamName="records", Data=b"late", PartitionKey="x", ExplicitHashKey="0")
    assert [record["Data"] for record in kinesis.get_records(ShardIterator=latest)["Records"]] == [b"late"]
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)

    refused("InvalidArgumentException", kinesis.get_records, ShardIterator="nonsense")
    refused("ResourceNotFoundException", iterator_of, stream="records", shard="shardId-000000000009")
    refused("ResourceNotFoundException", kinesis.put_record, StreamName="nobody", Data=b"", PartitionKey="a")
    for more in (
        {"kind": "AT_TIMESTAMP"},
        {"kind": "AT_TIMESTAMP", "Timestamp": tomorrow},
        {"kind": "AT_SEQUENCE_NUMBER"},
        {"kind": "LATEST", "StartingSequenceNumber": number},
        {"kind": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": number, "shard": "shardId-000000000001"},
    ):
        refused("InvalidArgumentException", iterator_of, stream="records", **more)
    refused(
        "InvalidArgumentException", kinesis.put_record, StreamName="records", Data=b"", PartitionKey="a",
        ExplicitHashKey=str(HASH_KEYS),
    )
    refused("InvalidArgumentException", kinesis.put_record, StreamName="records", Data=b"x" * 2**20, PartitionKey="a")
    # One bad entry, and none is put.
    before = len(data_from("records"))
    bad = [{"Data": b"good", "PartitionKey": "a"}, {"Data": b"bad", "PartitionKey": "a", "ExplicitHashKey": str(HASH_KEYS)}]
    refused("InvalidArgumentException", kinesis.put_records, StreamName="records", Records=bad)
    assert len(data_from("records")) == before

    dry = {**all_names("records"), "DryRun": True}
    refused("DryRunOperationException", kinesis.put_record, **dry, Data=b"dry", PartitionKey="a")
    refused("DryRunOperationException", kinesis.put_records, **dry, Records=[{"Data": b"dry", "PartitionKey": "a"}])
    refused(
        "DryRunOperationException", kinesis.get_shard_iterator, **dry, ShardId="shardId-000000000000",
        ShardIteratorType="LATEST",
    )
    refused("DryRunOperationException", kinesis.get_records, ShardIterator=latest, DryRun=True)
    assert len(data_from("records")) == before

    # The bounds of a stream's records may be changed.
    kinesis.update_max_record_size(StreamARN=arn_of("records"), MaxRecordSizeInKiB=3_072)
    until_active(kinesis, "records")
    assert summary_of("records")["MaxRecordSizeInKiB"] == 3_072
    large = b"x" * (3 * 2**20 - 1)
    put = kinesis.put_record(StreamName="records", Data=large, PartitionKey="a", ExplicitHashKey="0")
    assert data_from("records", kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"]) == [large]


def limits():
    """A shard takes 1,000 records in a second: the others fail one by one."""
    limited.create_stream(StreamName="limited", ShardCount=1)
    until_active(limited, "limited")
    entries = [{"Data": b"x", "PartitionKey": "a"}] * 500
    failed = []
    for _ in range(20):
        answer = limited.put_records(StreamName="limited", Records=entries)
        failed = [record for record in answer["Records"] if "ErrorCode" in record]
        assert answer["FailedRecordCount"] == len(failed)
        if failed:
            break
    assert failed, "nothing was throttled"
    for record in failed:
        text = f"Rate exceeded for shard shardId-000000000000 in stream limited under account {ACCOUNT}."
        assert record == {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": text}
    def put_many():
        for _ in range(2_000):
            limited.put_record(StreamName="limited", Data=b"x" * 2**19, PartitionKey="a")
    refused("ProvisionedThroughputExceededException", put_many)


def encryption():
    create("secret")
    kinesis.put_record(StreamName="secret", Data=b"plain", PartitionKey="a")
    key = {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}
    kinesis.start_stream_encryption(**all_names("secret"), **key)
    until_active(kinesis, "secret")
    description = kinesis.describe_stream(StreamName="secret")["StreamDescription"]
    for state in (description, summary_of("secret")):
        assert {name: state[name] for name in key} == key
    put = kinesis.put_record(StreamName="secret", Data=b"encrypted", PartitionKey="a")
    assert put["EncryptionType"] == "KMS"
    answer = kinesis.put_records(StreamName="secret", Records=[{"Data": b"too", "PartitionKey": "a"}])
    assert answer["EncryptionType"] == "KMS"
    kinesis.stop_stream_encryption(**all_names("secret"), **key)
    until_active(kinesis, "secret")
    assert summary_of("secret")["EncryptionType"] == "NONE"
    kinesis.put_record(StreamName="secret", Data=b"plain again", PartitionKey="a")
    found = kinesis.get_records(ShardIterator=iterator_of("secret"))["Records"]
    # A batch has one type, so records are asked for one by one where it changes.
    kinds = {}
    iterator = iterator_of("secret")
    while len(kinds) < 4:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=1)
        iterator = answer["NextShardIterator"]
        kinds.update((record["Data"], record.get("EncryptionType", "NONE")) for record in answer["Records"])
    assert kinds == {b"plain": "NONE", b"encrypted": "KMS", b"too": "KMS", b"plain again": "NONE"}
    assert {record["Data"]: record.get("EncryptionType", "NONE") for record in found}.items() <= kinds.items()
    refused("InvalidArgumentException", kinesis.start_stream_encryption, StreamName="secret", **{**key, "EncryptionType": "NONE"})
    refused("ResourceNotFoundException", kinesis.stop_stream_encryption, StreamName="nobody", **key)


def settings():
    create("set")
    kinesis.increase_stream_retention_period(**all_names("set"), RetentionPeriodHours=8_760)
    until_active(kinesis, "set")
    assert summary_of("set")["RetentionPeriodHours"] == 8_760
    for call, hours in (
        (kinesis.increase_stream_retention_period, 8_761),
        (kinesis.increase_stream_retention_period, 8_759),
        (kinesis.decrease_stream_retention_period, 23),
    ):
        refused("InvalidArgumentException", call, StreamName="set", RetentionPeriodHours=hours)
    kinesis.decrease_stream_retention_period(**all_names("set"), RetentionPeriodHours=48)
    until_active(kinesis, "set")
    assert summary_of("set")["RetentionPeriodHours"] == 48

    metrics = ["IncomingBytes", "OutgoingRecords"]
    answer = kinesis.enable_enhanced_monitoring(**all_names("set"), ShardLevelMetrics=metrics)
    assert answer["StreamName"] == "set" and answer["StreamARN"] == arn_of("set")
    assert answer["CurrentShardLevelMetrics"] == [] and sorted(answer["DesiredShardLevelMetrics"]) == metrics
    until_active(kinesis, "set")
    for state in (kinesis.describe_stream(StreamName="set")["StreamDescription"], summary_of("set")):
        (level,) = state["EnhancedMonitoring"]
        assert sorted(level["ShardLevelMetrics"]) == metrics
    answer = kinesis.disable_enhanced_monitoring(**all_names("set"), ShardLevelMetrics=["IncomingBytes"])
    assert answer["StreamName"] == "set" and answer["StreamARN"] == arn_of("set")
    assert sorted(answer["CurrentShardLevelMetrics"]) == metrics
    assert answer["DesiredShardLevelMetrics"] == ["OutgoingRecords"]
    until_active(kinesis, "set")
    answer = kinesis.enable_enhanced_monitoring(StreamName="set", ShardLevelMetrics=["ALL"])
    assert len(answer["DesiredShardLevelMetrics"]) == 7
    refused("ResourceNotFoundException", kinesis.enable_enhanced_monitoring, StreamName="nobody", ShardLevelMetrics=["ALL"])

    shards = lambda: sum(summary_of(name)["OpenShardCount"] for name in kinesis.list_streams()["StreamNames"])
    limits = kinesis.describe_limits()
    assert limits["OpenShardCount"] <= shards() and limits["ShardLimit"] >= limits["OpenShardCount"]
    assert (limits["OnDemandStreamCount"], limits["ChannelCount"]) == (0, 0)
    assert limits["OnDemandStreamCountLimit"] > 0 and limits["ChannelCountLimit"] >= 0
    account = kinesis.describe_account_settings()["MinimumThroughputBillingCommitment"]
    assert account["Status"] == "DISABLED"
    answer = kinesis.update_account_settings(MinimumThroughputBillingCommitment={"Status": "DISABLED"})
    assert answer["MinimumThroughputBillingCommitment"]["Status"] == "DISABLED"

    statement = {
        "Sid": "all", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": ["kinesis:GetRecords"], "Resource": arn_of("set"),
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    resource = {"ResourceARN": arn_of("set")}
    assert kinesis.get_resource_policy(**resource)["Policy"] == "{}"
    kinesis.put_resource_policy(**resource, Policy=policy)
    assert json.loads(kinesis.get_resource_policy(**resource)["Policy"]) == json.loads(policy)
    kinesis.delete_resource_policy(**resource)
    assert kinesis.get_resource_policy(**resource)["Policy"] == "{}"
    refused("InvalidArgumentException", kinesis.put_resource_policy, **resource, Policy="{")
    refused("ResourceNotFoundException", kinesis.delete_resource_policy, **resource)


def ids(shards):
    return [int(shard["ShardId"].removeprefix("shardId-")) for shard in shards]


def resharding():
    create("shards", 2)
    arn = arn_of("shards")
    kinesis.put_record(StreamName="shards", Data=b"before", PartitionKey="a", ExplicitHashKey="0")
    split = {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": str(2**126)}
    kinesis.split_shard(**all_names("shards"), **split)
    # Puts work while the stream is UPDATING.
    kinesis.put_record(StreamName="shards", Data=b"during", PartitionKey="a", ExplicitHashKey="0")
    until_active(kinesis, "shards")
    merge = {"ShardToMerge": "shardId-000000000002", "AdjacentShardToMerge": "shardId-000000000003"}
    refused("InvalidArgumentException", kinesis.split_shard, StreamName="shards", **split)
    turned = dict(zip(merge, reversed(merge.values())))
    refused("InvalidArgumentException", kinesis.merge_shards, StreamName="shards", **turned)
    refused("ResourceNotFoundException", kinesis.merge_shards, StreamName="shards", **{**merge, "ShardToMerge": "9"})
    kinesis.merge_shards(**all_names("shards"), **merge)
    until_active(kinesis, "shards")

    listed = kinesis.list_shards(StreamARN=arn, MaxResults=1_000)["Shards"]
    assert ids(listed) == [0, 1, 2, 3, 4]
    assert kinesis.describe_stream(StreamName="shards")["StreamDescription"]["Shards"] == listed
    by_id = dict(zip(ids(listed), listed))
    parents = lambda shard: (by_id[shard].get("ParentShardId"), by_id[shard].get("AdjacentParentShardId"))
    assert parents(0) == (None, None) and parents(2) == parents(3) == ("shardId-000000000000", None)
    assert parents(4) == ("shardId-000000000002", "shardId-000000000003")
    assert by_id[4]["HashKeyRange"] == by_id[0]["HashKeyRange"]
    assert by_id[3]["HashKeyRange"]["StartingHashKey"] == str(2**126)
    numbers = lambda shard: by_id[shard]["SequenceNumberRange"]
    assert [shard for shard in by_id if "EndingSequenceNumber" in numbers(shard)] == [0, 2, 3]
    for parent, child in ((0, 2), (0, 3), (2, 4), (3, 4)):
        assert int(numbers(child)["StartingSequenceNumber"]) > int(numbers(parent)["EndingSequenceNumber"])

    # A closed shard ends with its children, each of which names all its parents.
    seen = []
    iterator = iterator_of("shards")
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator)
        seen += answer["Records"]
        iterator = answer.get("NextShardIterator")
        assert (iterator is None) == ("ChildShards" in answer), "both or neither"
    assert seen[0]["Data"] == b"before"
    children = [(child["ShardId"], child["ParentShards"]) for child in answer["ChildShards"]]
    assert children == [(f"shardId-00000000000{child}", ["shardId-000000000000"]) for child in (2, 3)]
    assert answer["ChildShards"][0]["HashKeyRange"] == by_id[2]["HashKeyRange"]
    while "ChildShards" not in answer or ids(answer["ChildShards"]) != [4]:
        answer = kinesis.get_records(ShardIterator=iterator_of("shards", "shardId-000000000003"))
    assert answer["ChildShards"][0]["ParentShards"] == ["shardId-000000000002", "shardId-000000000003"]
    end = numbers(0)["EndingSequenceNumber"]
    refused("InvalidArgumentException", iterator_of, stream="shards", kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=end)

    created = summary_of("shards")["StreamCreationTimestamp"]
    find = lambda **more: ids(kinesis.list_shards(StreamName="shards", **more)["Shards"])
    now = datetime.datetime.now(datetime.timezone.utc)
    assert find(ExclusiveStartShardId="shardId-000000000002", StreamCreationTimestamp=created) == [3, 4]
    assert find(ShardFilter={"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"}) == [2, 3, 4]
    assert find(ShardFilter={"Type": "AT_TRIM_HORIZON"}) == [0, 1]
    assert find(ShardFilter={"Type": "FROM_TRIM_HORIZON"}) == [0, 1, 2, 3, 4]
    assert find(ShardFilter={"Type": "AT_LATEST"}) == [1, 4]
    assert find(ShardFilter={"Type": "AT_TIMESTAMP", "Timestamp": now}) == [1, 4]
    assert find(ShardFilter={"Type": "FROM_TIMESTAMP", "Timestamp": now}) == [1, 4]
    assert find(ShardFilter={"Type": "FROM_TIMESTAMP", "Timestamp": created}) == [0, 1, 2, 3, 4]
    first = kinesis.list_shards(StreamName="shards", MaxResults=2)
    assert ids(first["Shards"]) == [0, 1]
    assert ids(kinesis.list_shards(NextToken=first["NextToken"], MaxResults=2)["Shards"]) == [2, 3]
    text = refused("InvalidArgumentException", kinesis.list_shards, StreamName="shards", NextToken=first["NextToken"])
    assert text == "NextToken and StreamName cannot be provided together."
    # The paginator gives the name again with the token, which Kinesis refuses: it works for one page only.
    pages = kinesis.get_paginator("list_shards").paginate(StreamName="shards")
    assert [ids(page["Shards"]) for page in pages] == [[0, 1, 2, 3, 4]]

    count = {"TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"}
    answer = kinesis.update_shard_count(**all_names("shards"), **count)
    answer.pop("ResponseMetadata")
    assert answer == {"StreamName": "shards", "StreamARN": arn, "CurrentShardCount": 2, "TargetShardCount": 4}
    until_active(kinesis, "shards")
    open_shards = kinesis.list_shards(StreamName="shards", ShardFilter={"Type": "AT_LATEST"})["Shards"]
    starts = sorted(int(shard["HashKeyRange"]["StartingHashKey"]) for shard in open_shards)
    assert starts == [part * 2**126 for part in range(4)]
    refused("InvalidArgumentException", kinesis.update_shard_count, StreamName="shards", **{**count, "TargetShardCount": 9})


def events_of(stream_arn, arn, shard, position, count_max=100):
    """Subscribes, and returns the events until the subscription ends."""
    answer = kinesis.subscribe_to_shard(ConsumerARN=arn, ShardId=shard, StartingPosition=position)
    events = []
    for event in answer["EventStream"]:
        events.append(event["SubscribeToShardEvent"])
        if len(events) == count_max:
            answer["EventStream"].close()
            break
    return events


def consumers():
    create("pushed")
    stream = arn_of("pushed")
    registered = kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="one", Tags={"a": "b"})
    consumer = registered["Consumer"]
    arn = consumer["ConsumerARN"]
    created = consumer["ConsumerCreationTimestamp"]
    assert arn == f"{stream}/consumer/one:{int(created.timestamp())}"
    assert consumer["ConsumerName"] == "one" and consumer["ConsumerStatus"] in ("CREATING", "ACTIVE")
    describe = lambda **by: kinesis.describe_stream_consumer(**by)["ConsumerDescription"]
    until(lambda: describe(ConsumerARN=arn)["ConsumerStatus"] == "ACTIVE", "the consumer is ACTIVE")
    expected = {**consumer, "ConsumerStatus": "ACTIVE", "StreamARN": stream}
    assert describe(ConsumerARN=arn) == expected
    assert describe(StreamARN=stream, ConsumerName="one") == expected
    refused("ResourceInUseException", kinesis.register_stream_consumer, StreamARN=stream, ConsumerName="one")
    for name in ("three", "two"):
        kinesis.register_stream_consumer(StreamARN=stream, ConsumerName=name)
    stream_created = summary_of("pushed")["StreamCreationTimestamp"]
    listed = kinesis.list_stream_consumers(
        StreamARN=stream, MaxResults=100, StreamCreationTimestamp=stream_created
    )
    assert [one["ConsumerName"] for one in listed["Consumers"]] == ["one", "three", "two"]
    pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=stream, PaginationConfig={"PageSize": 2})
    assert [one["ConsumerName"] for page in pages for one in page["Consumers"]] == ["one", "three", "two"]
    assert summary_of("pushed")["ConsumerCount"] == 3

    shard = "shardId-000000000000"
    put = lambda data: kinesis.put_record(StreamName="pushed", Data=data, PartitionKey="k")
    first = put(b"1")
    put(b"2")
    # It lives for 4 seconds here, and ends by itself.
    started = time.monotonic()
    events = events_of(stream, arn, shard, {"Type": "TRIM_HORIZON"})
    assert 1 < time.monotonic() - started < 30
    got = [record for event in events for record in event["Records"]]
    assert [record["Data"] for record in got] == [b"1", b"2"]
    assert got[0]["SequenceNumber"] == first["SequenceNumber"] and got[0]["PartitionKey"] == "k"
    assert all(event["MillisBehindLatest"] == 0 for event in events[-1:])
    # The seam: nothing is lost and nothing comes twice.
    put(b"3")
    after = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": events[-1]["ContinuationSequenceNumber"]}
    event = events_of(stream, arn, shard, after, 1)[0]
    assert [record["Data"] for record in event["Records"]] == [b"3"]

    # A live subscription holds the shard for 5 seconds.
    other = describe(StreamARN=stream, ConsumerName="two")["ConsumerARN"]
    holding = kinesis.subscribe_to_shard(ConsumerARN=other, ShardId=shard, StartingPosition={"Type": "LATEST"})
    refused(
        "ResourceInUseException", kinesis.subscribe_to_shard, ConsumerARN=other, ShardId=shard,
        StartingPosition={"Type": "LATEST"},
    )
    holding["EventStream"].close()
    refused("ResourceNotFoundException", kinesis.subscribe_to_shard, ConsumerARN=arn, ShardId="9", StartingPosition={"Type": "LATEST"})
    nobody = arn.replace("/one:", "/nobody:")
    latest = {"ShardId": shard, "StartingPosition": {"Type": "LATEST"}}
    refused("ResourceNotFoundException", kinesis.subscribe_to_shard, ConsumerARN=nobody, **latest)
    position = {"Type": "AT_TIMESTAMP", "Timestamp": stream_created}
    refused(
        "DryRunOperationException", kinesis.subscribe_to_shard, ConsumerARN=arn, ShardId=shard, StartingPosition=position,
        DryRun=True,
    )

    # The end of a shard reports its children. Here the raw bytes of the events are read.
    third = describe(StreamARN=stream, ConsumerName="three")["ConsumerARN"]
    kinesis.split_shard(StreamName="pushed", ShardToSplit=shard, NewStartingHashKey=str(2**127))
    shape = MODEL.operation_model("SubscribeToShard").output_shape.members["EventStream"].members["SubscribeToShardEvent"]
    kinds, payloads = [], []
    for headers, payload in raw_events(third, shard, {"Type": "TRIM_HORIZON"}):
        assert headers[":message-type"] == "event" and headers[":content-type"] == "application/x-amz-json-1.1", headers
        kinds.append(headers[":event-type"])
        payloads.append(json.loads(payload))
    assert kinds == ["initial-response"] + ["SubscribeToShardEvent"] * (len(kinds) - 1) and len(kinds) > 1, kinds
    assert payloads[0] == {}
    for event in payloads[1:-1]:
        shapes.check(event, shape, "SubscribeToShardEvent")
    last = payloads[-1]
    assert last["ContinuationSequenceNumber"] is None and len(last["ChildShards"]) == 2
    shapes.check({**last, "ContinuationSequenceNumber": "0"}, shape, "SubscribeToShardEvent")
    until_active(kinesis, "pushed")

    kinesis.deregister_stream_consumer(ConsumerARN=third)
    kinesis.deregister_stream_consumer(StreamARN=stream, ConsumerName="two")
    count = lambda: summary_of("pushed")["ConsumerCount"]
    until(lambda: count() == 1, "two consumers are gone")
    refused("ResourceNotFoundException", kinesis.describe_stream_consumer, ConsumerARN=third)
    refused("ResourceInUseException", kinesis.delete_stream, StreamName="pushed")
    kinesis.delete_stream(**all_names("pushed"), EnforceConsumerDeletion=True)
    kinesis.get_waiter("stream_not_exists").wait(StreamName="pushed", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})


def raw_events(consumer, shard, position):
    """Subscribes without a client library, and yields the headers and the payload of each frame."""
    connection = Raw(sys.argv[1]).connection
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "Kinesis_20131202.SubscribeToShard",
        "X-Amz-Date": "20200101T000000Z",
        "Authorization": FORM,
    }
    body = {"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position}
    connection.request("POST", "/", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200 and response.getheader("Content-Type") == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    while piece := response.read1():
        buffer.add_data(piece)
        for frame in buffer:
            yield frame.headers, frame.payload


def modes():
    demand = {"StreamName": "demand", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
    refused("ValidationException", kinesis.create_stream, **demand, WarmThroughputMiBps=8)
    kinesis.create_stream(**demand)
    until_active(kinesis, "demand")
    state = summary_of("demand")
    assert state["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"} and state["OpenShardCount"] == 4
    assert kinesis.describe_limits()["OnDemandStreamCount"] == 1
    text = refused("ValidationException", kinesis.split_shard, StreamName="demand", ShardToSplit="0", NewStartingHashKey="9")
    assert text == f"Request is invalid. Stream demand under account {ACCOUNT} is in On-Demand mode."
    strategy = {"StreamARN": arn_of("demand"), "RecordDistributionStrategy": "AUTO"}
    kinesis.update_stream_record_distribution_strategy(**strategy)
    until_active(kinesis, "demand")
    assert summary_of("demand")["RecordDistributionStrategy"] == "AUTO"
    entries = [{"Data": bytes([number])} for number in range(40)]
    answer = kinesis.put_records(StreamName="demand", Records=entries)
    shards = {record["ShardId"] for record in answer["Records"]}
    assert len(shards) == 4, "the records are spread"
    found = [record for shard in shards for record in kinesis.get_records(ShardIterator=iterator_of("demand", shard))["Records"]]
    assert sorted(record["Data"] for record in found) == [entry["Data"] for entry in entries]
    assert all("PartitionKey" not in record for record in found)

    mode = lambda mode: {"StreamARN": arn_of("demand"), "StreamModeDetails": {"StreamMode": mode}}
    kinesis.update_stream_mode(**mode("PROVISIONED"))
    until_active(kinesis, "demand")
    assert summary_of("demand")["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}
    refused("ValidationException", kinesis.update_stream_record_distribution_strategy, **strategy)
    refused("ValidationException", kinesis.update_stream_mode, **mode("ON_DEMAND"), WarmThroughputMiBps=16)
    kinesis.update_stream_mode(**mode("ON_DEMAND"))
    until_active(kinesis, "demand")
    assert summary_of("demand")["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    refused("ValidationException", kinesis.update_stream_warm_throughput, **all_names("demand"), WarmThroughputMiBps=20)


def queues():
    """A stream on demand with queues: each operation, and each member of what it takes and answers."""
    kinesis.create_stream(StreamName="queued", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    until_active(kinesis, "queued")
    stream = {"StreamARN": arn_of("queued")}
    begun = kinesis.describe_stream(StreamName="queued")["StreamDescription"]["StreamCreationTimestamp"]
    put = kinesis.put_record(StreamName="queued", PartitionKey="user-17", Data=b"1")
    attributes = {
        "VisibilityTimeoutSeconds": 40,
        "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 1},
    }
    start = {"Type": "AT_TIMESTAMP", "Timestamp": begun}
    created = kinesis.create_queue(
        QueueName="q", StreamConfigurationList=[{**stream, "StartingPosition": start}], QueueAttributes=attributes, Tags={"a": "b"}
    )["QueueDescription"]
    queue = {"QueueARN": created["QueueARN"]}
    assert created == {
        "QueueName": "q", **queue, "QueueStatus": "CREATING", "QueueCreationTimestamp": created["QueueCreationTimestamp"],
        "StreamConfigurationList": [{**stream, "StartingPosition": start}], "QueueAttributes": attributes,
    }
    refused("ResourceInUseException", kinesis.create_queue, QueueName="q", StreamConfigurationList=[stream])
    until_queue = lambda state: until(
        lambda: kinesis.describe_queue(**queue)["QueueDescription"]["QueueStatus"] == state, f"the queue is {state}"
    )
    until_queue("ACTIVE")
    assert kinesis.describe_queue(**queue)["QueueDescription"] == {**created, "QueueStatus": "ACTIVE"}
    assert kinesis.list_tags_for_resource(ResourceARN=queue["QueueARN"])["Tags"] == [{"Key": "a", "Value": "b"}]
    refused("ResourceInUseException", kinesis.delete_stream, StreamName="queued", EnforceConsumerDeletion=True)
    refused("ResourceInUseException", kinesis.update_stream_mode, **stream, StreamModeDetails={"StreamMode": "PROVISIONED"})

    (record,) = kinesis.receive_queue_records(**queue, Limit=10, WaitTimeSeconds=1, VisibilityTimeoutSeconds=2)["QueueRecords"]
    handle = record["ReceiptHandle"]
    assert record == {
        "ReceiptHandle": handle, "RecordId": put["SequenceNumber"], "PartitionKey": "user-17", "Data": b"1",
        "ApproximateArrivalTimestamp": record["ApproximateArrivalTimestamp"],
        "FirstReceiveTimestamp": record["FirstReceiveTimestamp"], "ReceiveCount": 1,
    }
    entry = lambda handle, seconds=None: {
        "ReceiptHandle": handle, **({} if seconds is None else {"VisibilityTimeoutSeconds": seconds})
    }

    def partly(call, handle, *seconds):
        """Calls with a handle that is good and one that is none."""
        answer = call(**queue, Entries=[entry(handle, *seconds), entry("none", *seconds)])
        assert answer["Successful"] == [{"ReceiptHandle": handle}], answer
        (failed,) = answer["Failed"]
        assert failed == {
            "ReceiptHandle": "none", "ErrorCode": "InvalidArgumentException", "ErrorMessage": "The receipt handle is invalid."
        }

    partly(kinesis.update_queue_records_visibility, handle, 0)
    (dead,) = kinesis.receive_dead_letter_queue_records(
        **queue, Limit=10, WaitTimeSeconds=1, VisibilityTimeoutSeconds=100
    )["QueueRecords"]
    assert dead == {**record, "ReceiptHandle": dead["ReceiptHandle"], "ReceiveCount": 2}
    partly(kinesis.update_dead_letter_queue_records_visibility, dead["ReceiptHandle"], 200)
    partly(kinesis.restore_dead_letter_queue_records, dead["ReceiptHandle"])
    (record,) = kinesis.receive_queue_records(**queue)["QueueRecords"]
    kinesis.update_queue_records_visibility(**queue, Entries=[entry(record["ReceiptHandle"], 0)])
    (dead,) = kinesis.receive_dead_letter_queue_records(**queue)["QueueRecords"]
    partly(kinesis.acknowledge_dead_letter_queue_records, dead["ReceiptHandle"])
    kinesis.put_record(StreamName="queued", PartitionKey="user-17", Data=b"2")
    (record,) = kinesis.receive_queue_records(**queue)["QueueRecords"]
    partly(kinesis.acknowledge_queue_records, record["ReceiptHandle"])

    # A call that waits for its records does not block another one, and ends at its timeout.
    begun = time.monotonic()
    assert kinesis.receive_queue_records(**queue, WaitTimeSeconds=1)["QueueRecords"] == []
    assert 0.9 < time.monotonic() - begun < 10

    for dead_letters in ({"TargetType": "BUILT_IN", "MaxReceiveCount": 3}, {"TargetType": "NONE"}):
        changed = {"VisibilityTimeoutSeconds": 50, "DeadLetterConfiguration": dead_letters}
        updated = kinesis.update_queue(**queue, QueueAttributes=changed)["QueueDescription"]
        assert updated == {**created, "QueueStatus": "UPDATING", "QueueAttributes": changed}
        until_queue("ACTIVE")

    second = kinesis.create_queue(QueueName="r", StreamConfigurationList=[stream])["QueueDescription"]
    assert kinesis.describe_stream_summary(StreamName="queued")["StreamDescriptionSummary"]["QueueCount"] == 2
    first = kinesis.list_queues(MaxResults=1, StreamFilter=[{**stream, "StreamCreationTimestamp": start["Timestamp"]}])
    assert first["QueueSummaries"] == [{
        "QueueName": "q", **queue, "QueueStatus": "ACTIVE", "QueueCreationTimestamp": created["QueueCreationTimestamp"],
        "Streams": [{**stream, "StreamCreationTimestamp": start["Timestamp"]}],
    }]
    (rest,) = kinesis.list_queues(NextToken=first["NextToken"])["QueueSummaries"]
    assert rest["QueueARN"] == second["QueueARN"]
    pages = kinesis.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1})
    assert [summary["QueueName"] for page in pages for summary in page["QueueSummaries"]] == ["q", "r"]
    for arn in (queue["QueueARN"], second["QueueARN"]):
        kinesis.delete_queue(QueueARN=arn)
        assert kinesis.describe_queue(QueueARN=arn)["QueueDescription"]["QueueStatus"] == "DELETING"
    is_gone = lambda: kinesis.list_queues()["QueueSummaries"] == []
    until(is_gone, "the queues are gone")
    refused("ResourceNotFoundException", kinesis.describe_queue, **queue)
    kinesis.delete_stream(StreamName="queued")


def channels():
    """This server has none, and answers as an account without any."""
    assert kinesis.list_channels(
        MaxResults=5, NextToken="x", StreamFilter=[{"StreamARN": arn_of("life"), "StreamCreationTimestamp": 1.7e9}]
    )["ChannelSummaries"] == []
    bucket = {"BucketARN": "arn:aws:s3:::bucket", "ExpectedBucketOwner": ACCOUNT}
    dead = {**bucket, "ErrorOutputPrefix": "errors/"}
    storage = {**bucket, "OutputKeyTemplate": "data/", "StorageClass": "STANDARD", "CompressionType": "GZIP"}
    logging = {"CloudWatchLogs": {"Enabled": True, "LogGroupName": "group", "LogStreamName": "stream"}}
    table = {
        "TableBucketARN": f"arn:aws:s3tables:{REGION}:{ACCOUNT}:bucket/tables", "Namespace": "n", "TableName": "t",
        "CompressionType": "ZSTD", "PartitionSpec": {"PartitionFields": [{"Transform": "TIME_HOUR", "SourceName": "s"}]},
    }
    schema = f"arn:aws:glue:{REGION}:{ACCOUNT}:schema/a/b"
    refused(
        "LimitExceededException",
        kinesis.create_channel,
        ChannelName="c",
        ServiceExecutionRoleARN=f"arn:aws:iam::{ACCOUNT}:role/r",
        StreamConfigurationList=[
            {"StreamARN": arn_of("life"), "RecordConfiguration": {"RecordFormatType": "JSON", "GSRSchemaARN": schema}}
        ],
        S3DestinationConfiguration={
            "DataFreshnessInSeconds": 300, "DeadLetterQueueS3Configuration": dead, "StorageConfiguration": storage
        },
        S3TablesDestinationConfiguration={
            "DataFreshnessInSeconds": 300, "DeadLetterQueueS3Configuration": dead, "S3TablesConfigurationList": [table]
        },
        EncryptionConfiguration={"EncryptionType": "KMS", "KeyId": "k"},
        Tags={"a": "b"},
        LoggingConfiguration=logging,
    )
    channel = {"ChannelARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:channel/c"}
    refused("ResourceNotFoundException", kinesis.describe_channel, **channel)
    refused("ResourceNotFoundException", kinesis.delete_channel, **channel)
    refused(
        "ResourceNotFoundException",
        kinesis.update_channel,
        **channel,
        S3DestinationConfiguration=full("UpdateChannel", "S3DestinationConfiguration"),
        S3TablesDestinationConfiguration=full("UpdateChannel", "S3TablesDestinationConfiguration"),
        LoggingConfiguration=full("UpdateChannel", "LoggingConfiguration"),
    )


def full(operation, member):
    """Returns a value of a member that has all members."""

    def value(shape):
        if shape.type_name == "structure":
            return {name: value(member) for name, member in shape.members.items()}
        if shape.type_name == "list":
            return [value(shape.member)]
        if shape.type_name == "boolean":
            return True
        if shape.type_name == "integer":
            return shape.metadata.get("min", 300)
        if shape.enum:
            return shape.enum[0]
        return {"ExpectedBucketOwner": ACCOUNT, "BucketARN": "arn:aws:s3:::bucket"}.get(shape.name, "x")

    return value(MODEL.operation_model(operation).input_shape.members[member])


def check_completeness():
    assert called == set(MODEL.operation_names), set(MODEL.operation_names) - called
    for what, seen in (("input", sent), ("output", answered)):
        expected = set()
        for name in MODEL.operation_names:
            operation = MODEL.operation_model(name)
            expected.update(shapes.members_of(operation.input_shape if what == "input" else operation.output_shape, name))
        if what == "input":
            is_never = NEVER_SENT.search
        else:
            is_never = lambda path: any(re.match(re.escape(never) + r"($|[.\[])", path) for never in NEVER)
        left = sorted(path for path in expected - seen if not is_never(path))
        assert not left, f"{what} members that nobody has looked at: {left}"
    return len(sent), len(answered)


for part in (
    life_of_streams, tags, records, limits, encryption, settings, resharding, consumers, modes, queues, channels,
):
    part()
requests, answers = check_completeness()
finish(operations=len(called), members_of_requests=requests, members_of_answers=answers, kinds_of_errors=len(errors))
