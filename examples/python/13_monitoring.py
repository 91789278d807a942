"""13. Watch a stream.

Amazon Kinesis sends its metrics to CloudWatch. This server has the same ones, by the same names, at /metrics in the format of Prometheus. The two
that matter most: how much is refused, and how old what readers get is.
"""

import re
import urllib.request

import course

kinesis = course.client()


def metrics(name):
    """Returns the metrics of a stream."""
    page = urllib.request.urlopen(f"{kinesis.meta.endpoint_url}/metrics").read().decode()
    lines = re.findall(rf'^aws_kinesis_(\w+){{stream="{name}"}} (\S+)$', page, re.MULTILINE)
    return {metric: float(value) for metric, value in lines}


if "amazonaws.com" in kinesis.meta.endpoint_url:
    print("skipped: on Amazon Kinesis, ask CloudWatch: get_metric_statistics(Namespace='AWS/Kinesis', ...)")
    raise SystemExit

with course.stream(kinesis, shards=2) as name:
    kinesis.enable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["ALL"])
    course.wait(kinesis, name)
    for at in range(30):
        kinesis.put_record(StreamName=name, PartitionKey=str(at), Data=b"x" * 100)
    before = metrics(name)
    assert len(course.read_all(kinesis, name)) == 30
    after = metrics(name)
    for metric in sorted(after):
        print(f"{metric:50} {after[metric]:>12,.0f}")
    assert after["IncomingRecords_total"] == 30
    assert after["GetRecords_Records_total"] - before.get("GetRecords_Records_total", 0) == 30

print("ok")
