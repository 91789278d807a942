"""boto3's client of Firehose: delivery streams to buckets and to an HTTP endpoint, through all twelve operations.

    python firehose.py BUCKETS URL ENDPOINT

The gateway at the URL has its buckets in a directory, or in an S3 that moto plays, whose address is BUCKETS then. It may send to ENDPOINT, a port
of this machine at which the script serves.
"""

import base64
import gzip
import http.server
import json
import pathlib
import sys
import threading
import urllib.parse

import boto3
from botocore.exceptions import ClientError
from common import ACCOUNT, KEYS, REGION, client, finish, until, until_active

place, url, endpoint = sys.argv[1:]
firehose, kinesis = client(url, "firehose"), client(url)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/delivery"
AT_ONCE = {"SizeInMBs": 1, "IntervalInSeconds": 0}


def objects_in_directory(bucket):
    root = pathlib.Path(place, bucket)
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".partial"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def objects_in_s3(bucket):
    s3 = boto3.client("s3", endpoint_url=place, region_name=REGION, **KEYS)
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {found["Key"]: s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read() for found in listed}


if place.startswith("http://"):
    objects = objects_in_s3
    for bucket in ("clicks-archive", "orders-archive", "failed"):
        boto3.client("s3", endpoint_url=place, region_name=REGION, **KEYS).create_bucket(Bucket=bucket)
else:
    objects = objects_in_directory


def bucket(name, **more):
    return {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{name}", "BufferingHints": AT_ONCE, **more}


def status(name):
    return firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]["DeliveryStreamStatus"]


def create(name, **more):
    arn = firehose.create_delivery_stream(DeliveryStreamName=name, **more)["DeliveryStreamARN"]
    assert arn == f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/{name}", arn
    until(lambda: status(name) == "ACTIVE", f"{name} is ACTIVE")


def refused(kind, call, **members):
    try:
        call(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == kind, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{members} is not refused")


def lines(found):
    """Returns the lines of all objects, sorted."""
    text = lambda name, data: gzip.decompress(data) if name.endswith(".gz") else data
    return sorted(line for name, data in found.items() for line in text(name, data).splitlines())


# Puts, to a bucket.
create(
    "clicks",
    ExtendedS3DestinationConfiguration=bucket(
        "clicks-archive",
        Prefix="year=!{timestamp:yyyy}/",
        ErrorOutputPrefix="failed/!{firehose:error-output-type}/",
        CompressionFormat="GZIP",
        ProcessingConfiguration={"Enabled": True, "Processors": [{"Type": "AppendDelimiterToRecord"}]},
    ),
    Tags=[{"Key": "team", "Value": "web"}],
)
expected = []
for number in range(20):
    data = f"click {number}".encode()
    answer = firehose.put_record(DeliveryStreamName="clicks", Record={"Data": data})
    assert answer["RecordId"] and answer["Encrypted"] is False
    batch = [f"click {number} of batch {part}".encode() for part in range(number)] or [b"first of batch"]
    answer = firehose.put_record_batch(DeliveryStreamName="clicks", Records=[{"Data": data} for data in batch])
    assert answer["FailedPutCount"] == 0 and len(answer["RequestResponses"]) == len(batch)
    expected += [data, *batch]
until(lambda: lines(objects("clicks-archive")) == sorted(expected), "each record is delivered once")
names = list(objects("clicks-archive"))
assert all(name.startswith("year=20") and "/clicks-1-20" in name and name.endswith(".gz") for name in names), names

# Its description.
described = firehose.describe_delivery_stream(DeliveryStreamName="clicks")["DeliveryStreamDescription"]
assert described["DeliveryStreamType"] == "DirectPut" and described["VersionId"] == "1", described
(destination,) = described["Destinations"]
assert destination["ExtendedS3DestinationDescription"]["CompressionFormat"] == "GZIP", destination
assert destination["S3DestinationDescription"]["BucketARN"] == "arn:aws:s3:::clicks-archive", destination
assert firehose.list_tags_for_delivery_stream(DeliveryStreamName="clicks")["Tags"] == [{"Key": "team", "Value": "web"}]
firehose.tag_delivery_stream(DeliveryStreamName="clicks", Tags=[{"Key": "stage", "Value": "test"}])
firehose.untag_delivery_stream(DeliveryStreamName="clicks", TagKeys=["team"])
assert firehose.list_tags_for_delivery_stream(DeliveryStreamName="clicks")["Tags"] == [{"Key": "stage", "Value": "test"}]
assert refused("ResourceInUseException", firehose.create_delivery_stream, DeliveryStreamName="clicks", S3DestinationConfiguration=bucket("other"))

# Encryption.
encryption = lambda: firehose.describe_delivery_stream(DeliveryStreamName="clicks")["DeliveryStreamDescription"]["DeliveryStreamEncryptionConfiguration"]["Status"]
firehose.start_delivery_stream_encryption(DeliveryStreamName="clicks")
until(lambda: encryption() == "ENABLED", "encryption is on")
assert firehose.put_record(DeliveryStreamName="clicks", Record={"Data": b"hidden"})["Encrypted"] is True
firehose.stop_delivery_stream_encryption(DeliveryStreamName="clicks")
until(lambda: encryption() == "DISABLED", "encryption is off")
expected.append(b"hidden")
until(lambda: lines(objects("clicks-archive")) == sorted(expected), "what was encrypted is delivered")

# An update, and one that is too late.
update = {
    "DeliveryStreamName": "clicks",
    "CurrentDeliveryStreamVersionId": "1",
    "DestinationId": destination["DestinationId"],
    "ExtendedS3DestinationUpdate": {"CompressionFormat": "UNCOMPRESSED", "Prefix": "second/", "FileExtension": ".txt"},
}
firehose.update_destination(**update)
refused("ConcurrentModificationException", firehose.update_destination, **update)


def second():
    """Puts until the update has taken effect, as nothing says when."""
    data = f"after the update {len(expected)}".encode()
    firehose.put_record(DeliveryStreamName="clicks", Record={"Data": data})
    expected.append(data)
    return [name for name in objects("clicks-archive") if name.startswith("second/") and name.endswith(".txt")]


until(second, "the update has taken effect")
until(lambda: lines(objects("clicks-archive")) == sorted(expected), "each record is delivered once, across the update")

# From a Kinesis stream.
kinesis.create_stream(StreamName="orders", ShardCount=2)
until_active(kinesis, "orders")
kinesis.put_record(StreamName="orders", PartitionKey="a", Data=b"before\n")
source = {"KinesisStreamARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/orders", "RoleARN": ROLE}
create(
    "orders",
    DeliveryStreamType="KinesisStreamAsSource",
    KinesisStreamSourceConfiguration=source,
    S3DestinationConfiguration=bucket("orders-archive"),
)
orders = [f"order {number}".encode() for number in range(50)]
for data in orders:
    kinesis.put_record(StreamName="orders", PartitionKey=data.decode(), Data=data + b"\n")
until(lambda: lines(objects("orders-archive")) == sorted(orders), "what was put after its creation is delivered")
refused("InvalidSourceException", firehose.put_record, DeliveryStreamName="orders", Record={"Data": b"x"})


# To an HTTP endpoint.
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    records, heads = [], []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
        request = json.loads(body)
        self.heads.append(self.headers)
        self.records.extend(base64.b64decode(record["data"]) for record in request["records"])
        answer = json.dumps({"requestId": request["requestId"], "timestamp": request["timestamp"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


collector = http.server.ThreadingHTTPServer(("127.0.0.1", urllib.parse.urlsplit(endpoint).port), Collector)
threading.Thread(target=collector.serve_forever, daemon=True).start()
http_destination = {
    "EndpointConfiguration": {"Url": f"{endpoint}/collect", "Name": "collector", "AccessKey": "hush"},
    "BufferingHints": AT_ONCE,
    "RequestConfiguration": {"ContentEncoding": "GZIP", "CommonAttributes": [{"AttributeName": "team", "AttributeValue": "web"}]},
    "RetryOptions": {"DurationInSeconds": 60},
    "S3Configuration": bucket("failed"),
}
create("events", HttpEndpointDestinationConfiguration=http_destination)
events = [f"event {number}".encode() for number in range(30)]
firehose.put_record_batch(DeliveryStreamName="events", Records=[{"Data": data} for data in events])
until(lambda: sorted(Collector.records) == sorted(events), "the endpoint has each event")
head = Collector.heads[0]
assert head["X-Amz-Firehose-Access-Key"] == "hush" and json.loads(head["X-Amz-Firehose-Common-Attributes"]) == {
    "commonAttributes": {"team": "web"}
}, head
assert head["X-Amz-Firehose-Source-Arn"].endswith(":deliverystream/events"), head
assert "hush" not in str(firehose.describe_delivery_stream(DeliveryStreamName="events"))
elsewhere = {**http_destination, "EndpointConfiguration": {"Url": "https://169.254.169.254/latest"}}
refused("InvalidArgumentException", firehose.create_delivery_stream, DeliveryStreamName="evil", HttpEndpointDestinationConfiguration=elsewhere)

# The list, and the deletion.
page = firehose.list_delivery_streams(Limit=2)
assert (page["DeliveryStreamNames"], page["HasMoreDeliveryStreams"]) == (["clicks", "events"], True), page
after = firehose.list_delivery_streams(ExclusiveStartDeliveryStreamName="events")
assert (after["DeliveryStreamNames"], after["HasMoreDeliveryStreams"]) == (["orders"], False), after
assert kinesis.list_streams()["StreamNames"] == ["orders"]
for name in ("clicks", "events", "orders"):
    firehose.delete_delivery_stream(DeliveryStreamName=name)
until(lambda: firehose.list_delivery_streams()["DeliveryStreamNames"] == [], "all are deleted")
refused("ResourceNotFoundException", firehose.describe_delivery_stream, DeliveryStreamName="clicks")
finish(records=len(expected) + len(orders) + len(events), objects=sum(len(objects(name)) for name in ("clicks-archive", "orders-archive")))
