"""What the scripts share: clients of the gateway, calls without a client library, and a server that can be killed."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse

import boto3
import botocore.config
import botocore.session

REGION = "us-east-1"
ACCOUNT = "000000000000"
# The gateway takes any key here, because it was started without authentication.
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
# The form of a signature, for servers that do not check the signature itself.
FORM = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0"

for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ.pop(proxy, None)
os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)


def client(url, service="kinesis", attempts=1, **more):
    """Returns a client of boto3, which tries each call so many times."""
    config = botocore.config.Config(
        retries={"total_max_attempts": attempts}, connect_timeout=5, read_timeout=30, max_pool_connections=20
    )
    return boto3.client(service, endpoint_url=url, region_name=REGION, config=config, **{**KEYS, **more})


def service_model(service="kinesis"):
    """Returns botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


def until(condition, what, seconds=30):
    """Waits until a condition holds, and returns what it returns."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} seconds, still not: {what}")
        time.sleep(0.05)


def until_active(kinesis, stream):
    status = lambda: kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"]
    until(lambda: status() == "ACTIVE", f"stream {stream} is ACTIVE")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Raw:
    """A connection on which requests are sent as they are, without a client library."""

    def __init__(self, url, target="Kinesis_20131202"):
        self.target = target
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def call(self, operation, body):
        """Sends a request. Returns the status and the body, which is None if it is empty."""
        self.begin(operation, body)
        response = self.connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None

    def begin(self, operation, body):
        """Sends a request, and does not wait for the answer."""
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{self.target}.{operation}",
            "X-Amz-Date": "20200101T000000Z",
            "Authorization": FORM,
        }
        self.connection.request("POST", "/", json.dumps(body), headers)


class Server:
    """A gateway in a process of its own. A server that was killed starts again at its address."""

    def __init__(self, command, directory):
        self.command, self.directory, self.port, self.process = command, directory, 0, None

    def start(self):
        environment = {**os.environ, "STREAMLOG_GATEWAY_DIRECTORY": self.directory, "STREAMLOG_GATEWAY_PORT": str(self.port)}
        self.process = subprocess.Popen(
            self.command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.url = line.strip()
                self.port = urllib.parse.urlsplit(self.url).port
                return self
        raise AssertionError("the server ended before it served")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


def finish(**counts):
    """Prints what was done, for whoever reads the log."""
    name = os.path.basename(sys.argv[0])
    print(f"{name}: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
