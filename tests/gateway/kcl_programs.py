"""Programs that run beside a script: the KCL's daemon, moto, and others, each with a log. They end with the script."""

import glob
import json
import os
import signal
import subprocess
import sys

import amazon_kclpy
from common import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
LOGGING = """<configuration><appender name="C" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d{HH:mm:ss.SSS} %-5level %logger{0} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="C"/></root></configuration>"""
programs = []


class Program:
    """A program that runs beside this one, with its children, and its log."""

    def __init__(self, directory, name, command, **environment):
        self.log = os.path.join(directory, name + ".log")
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
            "PYTHONDONTWRITEBYTECODE": "1", **environment,
        }
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.PIPE, start_new_session=True
            )
        programs.append(self)

    def end(self):
        # Its children are in the group of this process, and in no other.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Daemon(Program):
    """The KCL's MultiLangDaemon, whose processor writes down what it is given."""

    def __init__(self, java, directory, name, properties):
        self.out = os.path.join(directory, f"{name}.jsonl")
        open(self.out, "w").close()
        place = os.path.join(directory, name)
        os.mkdir(place)
        properties = {
            "executableName": f"{sys.executable} {os.path.join(HERE, 'kcl_processor.py')}",
            "AwsCredentialsProvider": "DefaultCredentialsProvider",
            "processingLanguage": "python/3",
            "initialPositionInStream": "TRIM_HORIZON",
            "regionName": "us-east-1",
            "metricsLevel": "NONE",
            "clientVersionConfig": "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X",
            "idleTimeBetweenReadsInMillis": 250,
            "shardSyncIntervalMillis": 1_500,
            "parentShardPollIntervalMillis": 1_000,
            "leaseCleanupConfig.leaseCleanupIntervalMillis": 2_000,
            **properties,
        }
        with open(os.path.join(place, "kcl.properties"), "w") as file:
            file.writelines(f"{name} = {value}\n" for name, value in properties.items())
        with open(os.path.join(place, "logback.xml"), "w") as file:
            file.write(LOGGING)
        jars = glob.glob(os.path.join(os.path.dirname(amazon_kclpy.__file__), "jars", "*.jar"))
        # A short life: full JIT compilation is not worth it.
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command = [
            java, *options, "-cp", ":".join([place, *jars]), f"-Dlogback.configurationFile={place}/logback.xml",
            "software.amazon.kinesis.multilang.MultiLangDaemon", "--properties-file", f"{place}/kcl.properties",
        ]
        super().__init__(directory, name, command, KCL_OUT=self.out)

    def events(self):
        with open(self.out) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]


def start_moto(directory):
    """Starts moto, and returns its address."""
    port = free_port()
    Program(directory, "moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
    return f"http://127.0.0.1:{port}"


def run_to_the_end(run):
    """Runs a function, and ends all programs. If it fails, the ends of their logs are printed."""
    try:
        run()
    except BaseException:
        for program in programs:
            with open(program.log) as log:
                print(f"--- the end of {program.log}\n" + log.read()[-6_000:])
        raise
    finally:
        for program in programs:
            program.end()
