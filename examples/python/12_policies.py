"""12. Who may do what.

Each access key has IAM policies, and a stream can have a policy of its own. What nobody allows is denied. On this server, keys and their policies
are in the file of `--credentials`; `credentials.json` beside this script has two, and is for this course only.
"""

import json
import os

import boto3

import course

kinesis = course.client()
reader = boto3.client(
    "kinesis",
    aws_access_key_id=os.environ.get("COURSE_READER_KEY", "COURSEREADER"),
    aws_secret_access_key=os.environ.get("COURSE_READER_SECRET", "course-reader-secret"),
)

with course.stream(kinesis) as name:
    kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=b"hello")
    try:
        reader.put_record(StreamName=name, PartitionKey="user-17", Data=b"by a reader")
        print("skipped: start the server with --credentials credentials.json")
        raise SystemExit
    except reader.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException", error
        print("denied:", error.response["Error"]["Message"])
    # Reads are allowed by its own policy.
    assert [record["Data"] for record in course.read_all(reader, name)] == [b"hello"]

    # Puts are allowed by the stream's policy.
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    account = arn.split(":")[4]
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:user/reader"},
        "Action": "kinesis:PutRecord",
        "Resource": arn,
    }]}
    kinesis.put_resource_policy(ResourceARN=arn, Policy=json.dumps(policy))
    reader.put_record(StreamName=name, PartitionKey="user-17", Data=b"by a reader")
    assert len(course.read_all(kinesis, name)) == 2
    kinesis.delete_resource_policy(ResourceARN=arn)

print("ok")
