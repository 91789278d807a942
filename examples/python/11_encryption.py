"""11. Server-side encryption.

Records that are put while it is on are encrypted on disk and stay so. Readers notice nothing but a mark. On Amazon Kinesis the keys are in KMS;
here they are in the file of `--key-file`, and the key id is a name.
"""

import course

kinesis = course.client()
KEY = "alias/aws/kinesis"

with course.stream(kinesis) as name:
    kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=b"in plain")
    try:
        kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=KEY)
    except kinesis.exceptions.KMSNotFoundException as error:
        print("skipped: start the server with --key-file.", error.response["Error"]["Message"])
        raise SystemExit
    course.wait(kinesis, name)
    described = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert (described["EncryptionType"], described["KeyId"]) == ("KMS", KEY)
    kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=b"hidden")
    kinesis.stop_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=KEY)
    course.wait(kinesis, name)
    kinesis.put_record(StreamName=name, PartitionKey="user-17", Data=b"in plain again")
    for record in course.read_all(kinesis, name):
        print(record["Data"].decode(), "-", record.get("EncryptionType", "NONE"))
    types = [record.get("EncryptionType", "NONE") for record in course.read_all(kinesis, name)]
    assert types == ["NONE", "KMS", "NONE"]

print("ok")
