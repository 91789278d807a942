"""6. The Kinesis Client Library, Amazon's own, through its MultiLangDaemon.

The library is in Java. It leases shards among workers, keeps checkpoints in DynamoDB, and hands records to a process in any language, line by
line over its standard input. Here moto stands in for DynamoDB. This script needs Java, and `pip install 'kclpy-ext==3.1.3.post4' 'moto[server]'`.
"""

import glob
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import course

MISSING = [what for what in ("amazon_kclpy", "moto") if not importlib.util.find_spec(what)]
if MISSING or not shutil.which("java"):
    print("skipped: it needs", ", ".join(MISSING + [] if shutil.which("java") else MISSING + ["java"]))
    sys.exit()

PROCESSOR = '''
import json, os, sys
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

class Processor(processor.RecordProcessorBase):
    def initialize(self, start):
        pass

    def process_records(self, batch):
        with open(os.environ["COURSE_OUT"], "a") as out:
            for record in batch.records:
                out.write(json.dumps([record.partition_key, record.binary_data.decode()]) + "\\n")
        batch.checkpointer.checkpoint()

    def lease_lost(self, lost):
        pass

    def shard_ended(self, ended):
        ended.checkpointer.checkpoint()

    def shutdown_requested(self, requested):
        requested.checkpointer.checkpoint()

kcl.KCLProcess(Processor()).run()
'''
DYNAMODB_PORT = 16_511

kinesis = course.client()

with course.stream(kinesis, shards=2) as name, tempfile.TemporaryDirectory() as directory:
    for at in range(40):
        kinesis.put_record(StreamName=name, PartitionKey=f"user-{at}", Data=f"click {at}".encode())

    work = pathlib.Path(directory)
    work.joinpath("processor.py").write_text(PROCESSOR)
    dynamodb = f"http://127.0.0.1:{DYNAMODB_PORT}"
    settings = {
        "executableName": f"{sys.executable} {work / 'processor.py'}",
        "streamName": name,
        "applicationName": f"course-{name}",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "processingLanguage": "python/3",
        "initialPositionInStream": "TRIM_HORIZON",
        "regionName": kinesis.meta.region_name,
        "kinesisEndpoint": kinesis.meta.endpoint_url,
        "dynamoDBEndpoint": dynamodb,
        "cloudWatchEndpoint": dynamodb,
        "metricsLevel": "NONE",
        "clientVersionConfig": "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X",
        "retrievalMode": "POLLING",
        "idleTimeBetweenReadsInMillis": "500",
    }
    properties = work / "kcl.properties"
    properties.write_text("\n".join(f"{key} = {value}" for key, value in settings.items()))
    package = os.path.dirname(importlib.util.find_spec("amazon_kclpy").origin)
    jars = ":".join(glob.glob(os.path.join(package, "jars", "*.jar")))
    out = work / "records"
    environment = dict(os.environ, COURSE_OUT=str(out), AWS_EC2_METADATA_DISABLED="true")
    java = [
        "java", "-Xmx512m", "-cp", jars, "software.amazon.kinesis.multilang.MultiLangDaemon",
        "--properties-file", str(properties),
    ]
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(DYNAMODB_PORT)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    daemon = subprocess.Popen(java, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 180
        seen = set()
        while len(seen) < 40 and time.monotonic() < deadline:
            time.sleep(0.5)
            if out.exists():
                seen = {tuple(json.loads(line)) for line in out.read_text().splitlines() if line.endswith("]")}
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        moto.terminate()
        moto.wait()
    print(f"the library handed over {len(seen)} records")
    assert seen == {(f"user-{at}", f"click {at}") for at in range(40)}

print("ok")
