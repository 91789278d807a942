"""Video streams with boto3, with a producer of our own and with curl: every operation, and what players get, decoded by ffmpeg.

Arguments: the address of a gateway that anybody may call, the address of one with keys, the path of ffmpeg, the address of a gateway with TLS, and
the file of its certificate.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timedelta, timezone

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from botocore.exceptions import ClientError

import common

URL, KEYED_URL, FFMPEG, TLS_URL, CHAIN = sys.argv[1:6]
# When the producer of each test starts. Fragments have these times, whenever they are sent.
START = 1_767_225_600
COUNTS = {}


def count(what, by=1):
    COUNTS[what] = COUNTS.get(what, 0) + by


def refused(kind, status, call, **arguments):
    """A call fails with an error of this name and status. Returns its text."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert found == (kind, status), (found, error, arguments)
        assert error.response["Error"]["Message"], error.response
        count("errors")
        return error.response["Error"]["Message"]
    raise AssertionError(f"{kind} expected of {arguments}")


# Media: what is sent, and what it decodes to.


def ffmpeg(*arguments, data=None):
    command = [FFMPEG, "-hide_banner", "-nostdin", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout


def film(seconds, codec="libx264", size="160x120", audio=False, options=()):
    """Matroska of moving pictures, a cluster for each second."""
    source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration={seconds}"]
    sound = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}", "-c:a", "aac"] if audio else []
    video = ["-c:v", codec, "-pix_fmt", "yuvj420p" if codec == "mjpeg" else "yuv420p", "-g", "10", *options]
    if codec == "libx264":
        video += ["-preset", "ultrafast", "-bf", "2", "-sc_threshold", "0"]
    muxer = ["-f", "matroska", "-cluster_time_limit", "1000000", "-cluster_size_limit", "100000000", "-live", "1", "-"]
    return ffmpeg(*source, *sound[:4], *video, *sound[4:], *muxer)


def decoded(source, *options, data=None):
    """The hashes of the pictures of a file or URL, in order."""
    lines = ffmpeg(*options, "-i", source, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-", data=data)
    return [line.split(",")[-1].strip() for line in lines.decode().splitlines() if not line.startswith("#")]


# Requests that boto3 does not know.


def signed(url, headers, key="test", secret="test"):
    request = botocore.awsrequest.AWSRequest("POST", url, headers=headers, data=b"")
    credentials = botocore.credentials.Credentials(key, secret)
    botocore.auth.SigV4Auth(credentials, "kinesisvideo", common.REGION).add_auth(request)
    return dict(request.headers.items())


class Producer:
    """A call of PutMedia whose body is still being sent. The acknowledgements are read by a thread."""

    def __init__(self, url, name, start=START, timecodes="RELATIVE", keys=("test", "test"), **more):
        headers = {
            "x-amzn-stream-name": name,
            "x-amzn-fragment-timecode-type": timecodes,
            "x-amzn-producer-start-timestamp": f"{start:.3f}",
            "x-amzn-fragment-acknowledgment-required": "1",
            **more,
        }
        headers = {name: value for name, value in headers.items() if value is not None}
        headers = signed(f"{url}/putMedia", {**headers, "host": urllib.parse.urlsplit(url).netloc}, *keys)
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        self.connection.putrequest("POST", "/putMedia", skip_host=True, skip_accept_encoding=True)
        for header, value in headers.items():
            self.connection.putheader(header, value)
        self.connection.putheader("transfer-encoding", "chunked")
        self.connection.endheaders()
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        self.acks = []
        if self.response.status == 200:
            self.reader = threading.Thread(target=self.read)
            self.reader.start()

    def read(self):
        while line := self.response.readline():
            self.acks.append(json.loads(line))

    def send(self, data):
        for at in range(0, len(data), 10_000):
            part = data[at : at + 10_000]
            self.socket.sendall(b"%x\r\n%s\r\n" % (len(part), part))

    def finish(self):
        self.socket.sendall(b"0\r\n\r\n")
        self.reader.join(30)
        assert not self.reader.is_alive()
        self.connection.close()
        count("fragments put", len(self.numbers("PERSISTED")))
        return self.acks

    def numbers(self, event):
        return [ack["FragmentNumber"] for ack in self.acks if ack["EventType"] == event]


def put(url, name, data, **options):
    producer = Producer(url, name, **options)
    assert producer.response.status == 200, producer.response.read()
    producer.send(data)
    return producer.finish()


def body_of(response):
    return response["Payload"].read()


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        count("files played")
        return response.read()


def status_of(url):
    try:
        fetch(url)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-amzn-errortype"]
    return 200, None


def at(seconds):
    return datetime.fromtimestamp(START + seconds, timezone.utc)


VIDEO = common.client(URL, "kinesisvideo")
MEDIA = common.client(URL, "kinesis-video-media")
ARCHIVE = common.client(URL, "kinesis-video-archived-media")


def control():
    created = VIDEO.create_stream(
        StreamName="hall", DeviceName="camera-1", MediaType="video/h264,audio/aac", DataRetentionInHours=24, Tags={"floor": "1"}
    )
    arn = created["StreamARN"]
    assert arn.startswith(f"arn:aws:kinesisvideo:{common.REGION}:{common.ACCOUNT}:stream/hall/"), arn
    info = VIDEO.describe_stream(StreamName="hall")["StreamInfo"]
    version = info.pop("Version")
    assert abs((info.pop("CreationTime") - datetime.now(timezone.utc)).total_seconds()) < 60
    assert info == {
        "StreamName": "hall",
        "StreamARN": arn,
        "DeviceName": "camera-1",
        "MediaType": "video/h264,audio/aac",
        "Status": "ACTIVE",
        "DataRetentionInHours": 24,
    }, info
    refused("ResourceInUseException", 400, VIDEO.create_stream, StreamName="hall")
    refused("InvalidArgumentException", 400, VIDEO.create_stream, StreamName="x", DataRetentionInHours=87_601)
    refused("InvalidArgumentException", 400, VIDEO.create_stream, StreamName="x", KmsKeyId="alias/aws/kinesisvideo")
    refused("ResourceNotFoundException", 404, VIDEO.describe_stream, StreamName="nowhere")
    refused("ResourceNotFoundException", 404, VIDEO.describe_stream, StreamARN=arn[:-1] + str((int(arn[-1]) + 1) % 10))
    refused("InvalidArgumentException", 400, VIDEO.describe_stream)
    assert VIDEO.describe_stream(StreamName="hall", StreamARN=arn)["StreamInfo"]["StreamARN"] == arn

    # Each change makes a version that the next change must name.
    VIDEO.update_stream(StreamName="hall", CurrentVersion=version, DeviceName="camera-2")
    refused("VersionMismatchException", 400, VIDEO.update_stream, StreamName="hall", CurrentVersion=version, DeviceName="camera-3")
    changed = VIDEO.describe_stream(StreamARN=arn)["StreamInfo"]
    assert (changed["DeviceName"], changed["MediaType"]) == ("camera-2", "video/h264,audio/aac"), changed

    def retention(operation, hours, version):
        return VIDEO.update_data_retention(
            StreamARN=arn, CurrentVersion=version, Operation=f"{operation}_DATA_RETENTION", DataRetentionChangeInHours=hours
        )

    refused("VersionMismatchException", 400, lambda: retention("INCREASE", 1, version))
    retention("INCREASE", 48, changed["Version"])
    changed = VIDEO.describe_stream(StreamARN=arn)["StreamInfo"]
    assert changed["DataRetentionInHours"] == 72, changed
    refused("InvalidArgumentException", 400, lambda: retention("DECREASE", 73, changed["Version"]))
    retention("DECREASE", 70, changed["Version"])
    assert VIDEO.describe_stream(StreamARN=arn)["StreamInfo"]["DataRetentionInHours"] == 2

    VIDEO.tag_stream(StreamName="hall", Tags={"owner": "alice", "floor": "2"})
    VIDEO.tag_resource(ResourceARN=arn, Tags=[{"Key": "room", "Value": "7"}])
    tags = {"owner": "alice", "floor": "2", "room": "7"}
    assert VIDEO.list_tags_for_stream(StreamName="hall")["Tags"] == tags
    VIDEO.untag_stream(StreamARN=arn, TagKeyList=["owner", "no such tag"])
    VIDEO.untag_resource(ResourceARN=arn, TagKeyList=["room"])
    assert VIDEO.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"floor": "2"}
    many = {f"key-{number}": "" for number in range(50)}
    refused("TagsPerResourceExceededLimitException", 400, VIDEO.tag_stream, StreamName="hall", Tags=many)

    for number in range(5):
        VIDEO.create_stream(StreamName=f"room-{number}")
    pages = VIDEO.get_paginator("list_streams").paginate(
        StreamNameCondition={"ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "room-"}, PaginationConfig={"PageSize": 2}
    )
    pages = [[info["StreamName"] for info in page["StreamInfoList"]] for page in pages]
    assert pages == [["room-0", "room-1"], ["room-2", "room-3"], ["room-4"]], pages
    assert len(VIDEO.list_streams()["StreamInfoList"]) == 6
    for name in ("PUT_MEDIA", "GET_MEDIA", "GET_HLS_STREAMING_SESSION_URL", "GET_CLIP"):
        assert VIDEO.get_data_endpoint(StreamName="hall", APIName=name)["DataEndpoint"] == URL
    refused("InvalidArgumentException", 400, VIDEO.get_data_endpoint, StreamName="hall", APIName="GET_TEA")
    stored = VIDEO.describe_stream_storage_configuration(StreamName="hall")
    assert stored["StreamStorageConfiguration"] == {"DefaultStorageTier": "HOT"}, stored

    version = VIDEO.describe_stream(StreamName="room-0")["StreamInfo"]["Version"]
    room = VIDEO.describe_stream(StreamName="room-0")["StreamInfo"]["StreamARN"]
    refused("VersionMismatchException", 400, VIDEO.delete_stream, StreamARN=room, CurrentVersion="other")
    VIDEO.delete_stream(StreamARN=room, CurrentVersion=version)
    refused("ResourceNotFoundException", 404, VIDEO.delete_stream, StreamARN=room)
    time.sleep(0.01)
    again = VIDEO.create_stream(StreamName="room-0")["StreamARN"]
    assert again != room
    # Streams of Kinesis and of video do not see each other.
    assert common.client(URL).list_streams()["StreamNames"] == []


def media():
    """A film is put in pieces, and is there live and archived."""
    data = film(6, audio=True)
    frames = decoded("pipe:0", data=data)
    assert len(frames) == 60
    VIDEO.create_stream(StreamName="door", DataRetentionInHours=1)
    producer = Producer(URL, "door")
    assert producer.response.status == 200 and producer.response.headers["transfer-encoding"] == "chunked"
    producer.send(data[: len(data) // 2])
    # Half of it has been acknowledged while the rest is not there yet.
    common.until(lambda: len(producer.numbers("PERSISTED")) >= 2, "fragments are acknowledged while the request runs")
    assert len(producer.numbers("PERSISTED")) < 6
    second = Producer(URL, "door")
    assert (second.response.status, second.response.headers["x-amzn-errortype"]) == (400, "ConnectionLimitExceededException")

    live = MEDIA.get_media(StreamName="door", StartSelector={"StartSelectorType": "NOW"})["Payload"]
    seen = bytearray()

    def watch():
        while seen.count(b"AWS_KINESISVIDEO_FRAGMENT_NUMBER") < 3:
            seen.extend(live._raw_stream.read1(65_536))

    viewer = threading.Thread(target=watch)
    viewer.start()
    producer.send(data[len(data) // 2 :])
    acks = producer.finish()
    viewer.join(30)
    assert not viewer.is_alive()
    live.close()
    numbers = producer.numbers("PERSISTED")
    assert len(numbers) == 6 and numbers == sorted(numbers), acks
    for number in numbers:
        events = [ack["EventType"] for ack in acks if ack.get("FragmentNumber") == number]
        assert events == ["BUFFERING", "RECEIVED", "PERSISTED"], events

    fragments = []
    for page in ARCHIVE.get_paginator("list_fragments").paginate(StreamName="door", PaginationConfig={"PageSize": 4}):
        fragments += page["Fragments"]
    assert [fragment["FragmentNumber"] for fragment in fragments] == numbers
    starts = [(fragment["ProducerTimestamp"] - at(0)).total_seconds() for fragment in fragments]
    assert all(abs(start - second) < 0.25 for second, start in enumerate(starts)), starts
    assert all(700 <= fragment["FragmentLengthInMilliseconds"] <= 1_300 for fragment in fragments), fragments
    selector = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at(0.5), "EndTimestamp": at(3.5)}}
    chosen = ARCHIVE.list_fragments(StreamName="door", FragmentSelector=selector)["Fragments"]
    assert {fragment["FragmentNumber"] for fragment in chosen} == set(numbers[1:4]), chosen

    for start, expected in [
        ({"StartSelectorType": "EARLIEST"}, numbers),
        ({"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": numbers[3]}, numbers[4:]),
        ({"StartSelectorType": "PRODUCER_TIMESTAMP", "StartTimestamp": at(2.5)}, numbers[3:]),
        ({"StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": fragments[0]["ServerTimestamp"]}, numbers),
    ]:
        payload = MEDIA.get_media(StreamName="door", StartSelector=start)["Payload"]
        seen = bytearray()
        while seen.count(b"AWS_KINESISVIDEO_MILLIS_BEHIND_NOW") < len(expected):
            seen.extend(payload._raw_stream.read1(65_536))
        payload.close()
        found = [number for number in numbers if number.encode() in seen]
        assert found == expected, (start, found)
        count("views")
    token = bytes(seen[seen.index(b"AWS_KINESISVIDEO_CONTINUATION_TOKEN") :])
    assert token
    refused("InvalidArgumentException", 400, MEDIA.get_media, StreamName="door", StartSelector={"StartSelectorType": "SERVER_TIMESTAMP"})

    listed = ARCHIVE.get_media_for_fragment_list(StreamName="door", Fragments=numbers)
    assert decoded("pipe:0", data=body_of(listed)) == frames
    count("views")
    few = body_of(ARCHIVE.get_media_for_fragment_list(StreamName="door", Fragments=[numbers[4], numbers[1]]))
    assert few.index(numbers[4].encode()) < few.index(numbers[1].encode())
    return frames, numbers


def clips(frames):
    selector = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at(-1), "EndTimestamp": at(60)}}
    clip = body_of(ARCHIVE.get_clip(StreamName="door", ClipFragmentSelector=selector))
    assert clip[4:8] == b"ftyp"
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(clip)
        file.flush()
        assert decoded(file.name) == frames
    selector["TimestampRange"] = {"StartTimestamp": at(1_000), "EndTimestamp": at(1_060)}
    refused("ResourceNotFoundException", 404, ARCHIVE.get_clip, StreamName="door", ClipFragmentSelector=selector)
    times = {"StartTimestamp": at(0), "EndTimestamp": at(60)}
    images = ARCHIVE.get_images(StreamName="door", ImageSelectorType="PRODUCER_TIMESTAMP", Format="JPEG", **times)["Images"]
    # There is no decoder.
    assert images and all(image["Error"] == "MEDIA_ERROR" for image in images), images
    later = {"StartTimestamp": at(600), "EndTimestamp": at(660)}
    images = ARCHIVE.get_images(StreamName="door", ImageSelectorType="PRODUCER_TIMESTAMP", Format="JPEG", **later)["Images"]
    assert [image["Error"] for image in images] == ["NO_MEDIA"], images
    # The pictures of Motion JPEG are returned as they are.
    VIDEO.create_stream(StreamName="stills", DataRetentionInHours=1)
    put(URL, "stills", film(3, codec="mjpeg"))
    pages = ARCHIVE.get_paginator("get_images").paginate(
        StreamName="stills", ImageSelectorType="PRODUCER_TIMESTAMP", Format="JPEG", SamplingInterval=500, MaxResults=4, **times
    )
    images = [image for page in pages for image in page["Images"]]
    assert len(images) >= 6 and all(image["ImageContent"].startswith("/9j/") for image in images), images[:2]
    steps = [(later["TimeStamp"] - image["TimeStamp"]).total_seconds() for image, later in zip(images, images[1:])]
    assert all(0.45 < step < 0.65 for step in steps), steps
    refused(
        "InvalidArgumentException", 400, ARCHIVE.get_images, StreamName="stills", ImageSelectorType="PRODUCER_TIMESTAMP", Format="PNG", **times
    )


def played(frames, numbers):
    by_producer = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at(-1), "EndTimestamp": at(60)}}
    whole = {"StreamName": "door", "PlaybackMode": "ON_DEMAND"}

    def hls(**more):
        return ARCHIVE.get_hls_streaming_session_url(**more)["HLSStreamingSessionURL"]

    def dash(**more):
        return ARCHIVE.get_dash_streaming_session_url(**more)["DASHStreamingSessionURL"]

    for container in ("FRAGMENTED_MP4", "MPEG_TS"):
        for mode in ("ALWAYS", "NEVER", "ON_DISCONTINUITY"):
            url = hls(HLSFragmentSelector=by_producer, ContainerFormat=container, DiscontinuityMode=mode, DisplayFragmentTimestamp="ALWAYS", **whole)
            assert decoded(url, "-allowed_extensions", "ALL", "-extension_picky", "0") == frames, (container, mode)
            count("sessions")
    master = fetch(url).decode()
    assert 'CODECS="avc1.' in master and "mp4a.40.2" in master and "RESOLUTION=160x120" in master, master
    playlist = fetch(urllib.parse.urljoin(url, master.splitlines()[-1])).decode()
    assert playlist.count("#EXTINF:") == 6 and playlist.endswith("#EXT-X-ENDLIST\n"), playlist
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0" in playlist, playlist
    assert decoded(dash(DASHFragmentSelector=by_producer, **whole)) == frames
    manifest = fetch(dash(DASHFragmentSelector=by_producer, DisplayFragmentNumber="ALWAYS", DisplayFragmentTimestamp="ALWAYS", **whole)).decode()
    assert all(f'kvs:fn="{number}"' in manifest for number in numbers), manifest
    count("sessions", 2)

    # Part of the range, by server time.
    server = ARCHIVE.list_fragments(StreamName="door")["Fragments"]
    times = {fragment["FragmentNumber"]: fragment["ServerTimestamp"] for fragment in server}
    span = {"StartTimestamp": times[numbers[0]], "EndTimestamp": times[numbers[5]] + timedelta(milliseconds=1)}
    by_server = {"FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": span}
    url = hls(HLSFragmentSelector=by_server, MaxMediaPlaylistFragmentResults=4, **whole)
    playlist = fetch(urllib.parse.urljoin(url, fetch(url).decode().splitlines()[-1])).decode()
    assert [number for number in numbers if number in playlist] == numbers[:4], playlist
    assert playlist.count("#EXT-X-DISCONTINUITY\n") == 3, playlist

    # A token is valid only for the fragments of its session.
    token = url.split("SessionToken=")[1]
    fragment = f"{URL}/hls/v1/getMP4MediaFragment.mp4?SessionToken={{}}&FragmentNumber={{}}"
    assert status_of(fragment.format(token, numbers[2])) == (200, None)
    narrow = dict(by_producer, TimestampRange={"StartTimestamp": at(2.5), "EndTimestamp": at(4)})
    token = hls(HLSFragmentSelector=narrow, **whole).split("SessionToken=")[1]
    assert status_of(fragment.format(token, numbers[0])) == (404, "ResourceNotFoundException")
    assert status_of(fragment.format(token[:-4] + "AAAA", numbers[3])) == (401, "NotAuthorizedException")
    assert status_of(fragment.format("", numbers[3])) == (401, "NotAuthorizedException")
    assert status_of(f"{URL}/hls/v1/getNothing?SessionToken={token}")[0] == 404

    old = dict(by_producer, TimestampRange={"StartTimestamp": at(-90_000), "EndTimestamp": at(60)})
    refused("InvalidArgumentException", 400, hls, HLSFragmentSelector=old, **whole)
    refused("InvalidArgumentException", 400, dash, DASHFragmentSelector=old, **whole)
    refused("InvalidArgumentException", 400, hls, **whole)
    refused("InvalidArgumentException", 400, hls, StreamName="door", Expires=43_201)
    refused("InvalidArgumentException", 400, hls, StreamName="door", HLSFragmentSelector=by_producer)
    empty = dict(by_producer, TimestampRange={"StartTimestamp": at(1_000), "EndTimestamp": at(1_060)})
    refused("ResourceNotFoundException", 404, hls, HLSFragmentSelector=empty, **whole)
    refused("NoDataRetentionException", 400, hls, StreamName="room-1")
    refused("NoDataRetentionException", 400, dash, StreamName="room-1")
    refused("UnsupportedStreamMediaTypeException", 400, hls, StreamName="stills")
    VIDEO.create_stream(StreamName="vp8", DataRetentionInHours=1)
    put(URL, "vp8", film(1, codec="libvpx"))
    refused("UnsupportedStreamMediaTypeException", 400, hls, StreamName="vp8")


def replayed(frames, numbers):
    """A replay shows its first fragments at once, and each further one when it has been played."""
    selector = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at(-1)}}
    options = dict(StreamName="door", PlaybackMode="LIVE_REPLAY", HLSFragmentSelector=selector, MaxMediaPlaylistFragmentResults=3)
    url = ARCHIVE.get_hls_streaming_session_url(**options)["HLSStreamingSessionURL"]
    media = urllib.parse.urljoin(url, fetch(url).decode().splitlines()[-1])
    fragments = lambda: [line for line in fetch(media).decode().splitlines() if line.startswith("getMP4MediaFragment")]
    shown = lambda: [number for line in fragments() for number in numbers if number in line]
    assert shown() == numbers[:3]
    begun = time.monotonic()
    common.until(lambda: shown() == numbers[3:], "a replay moves on")
    assert 2.5 < time.monotonic() - begun < 6
    count("sessions")


def live():
    """A live playlist has a fragment as soon as it is acknowledged, and players play it."""
    VIDEO.create_stream(StreamName="live", DataRetentionInHours=1)
    hls = lambda **more: ARCHIVE.get_hls_streaming_session_url(StreamName="live", **more)["HLSStreamingSessionURL"]
    refused("ResourceNotFoundException", 404, hls)
    data = film(8)
    clusters = [at for at in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", at)] + [len(data)]
    assert len(clusters) == 9
    producer = Producer(URL, "live", start=time.time())
    producer.send(data[: clusters[2]])
    common.until(lambda: producer.numbers("PERSISTED"), "the first fragment is stored")
    url = hls(PlaybackMode="LIVE", MaxMediaPlaylistFragmentResults=3)
    media = urllib.parse.urljoin(url, fetch(url).decode().splitlines()[-1])
    sequences = {}
    for begin, end in zip(clusters[2:], clusters[3:]):
        before = len(producer.numbers("PERSISTED"))
        producer.send(data[begin:end])
        # The end of a cluster of unknown size is the beginning of the next one.
        common.until(lambda: len(producer.numbers("PERSISTED")) > before, "a fragment is stored")
        playlist = fetch(media).decode()
        newest = producer.numbers("PERSISTED")
        assert newest[-1] in playlist, "it is in the playlist at once"
        first = int(playlist.split("#EXT-X-MEDIA-SEQUENCE:")[1].split()[0])
        listed = [line for line in playlist.splitlines() if line.startswith("getMP4MediaFragment")]
        assert len(listed) <= 3
        for sequence, line in enumerate(listed, first):
            assert sequences.setdefault(line, sequence) == sequence, (line, playlist)
    producer.finish()
    assert len(sequences) >= 7, sequences
    count("sessions")
    manifest = fetch(ARCHIVE.get_dash_streaming_session_url(StreamName="live")["DASHStreamingSessionURL"]).decode()
    assert 'type="dynamic"' in manifest and 'startNumber="0"' in manifest, manifest


def bad_media():
    """What PutMedia refuses is acknowledged with the id that Kinesis gives it."""
    for data, error in [(b"this is no Matroska" * 100, 4006), (film(2)[:-2_000], 4000)]:
        acks = put(URL, "hall", data)
        assert (acks[-1]["EventType"], acks[-1]["ErrorId"]) == ("ERROR", error), acks
        count("errors")
    for more, kind in [
        ({"x-amzn-stream-name": "nowhere"}, "ResourceNotFoundException"),
        ({"x-amzn-stream-name": None}, "InvalidArgumentException"),
        ({"x-amzn-fragment-timecode-type": "SOMETIMES"}, "InvalidArgumentException"),
        ({"x-amzn-fragment-timecode-type": None}, "InvalidArgumentException"),
        ({"x-amzn-producer-start-timestamp": "yesterday"}, "InvalidArgumentException"),
    ]:
        refusal = Producer(URL, "hall", **more)
        assert refusal.response.status in (400, 404) and refusal.response.headers["x-amzn-errortype"] == kind, (more, refusal.response.status)
        assert json.loads(refusal.response.read())["Message"]
        count("errors")
    # A producer that disconnects leaves its complete fragments, and the next one may connect.
    data = film(3)
    producer = Producer(URL, "hall")
    producer.send(data[:-3_000])
    common.until(lambda: len(producer.numbers("PERSISTED")) == 2, "whole fragments are stored")
    producer.socket.shutdown(2)
    producer.reader.join(30)
    common.until(lambda: Producer(URL, "hall", timecodes="ABSOLUTE").response.status == 200, "the next producer is taken")


def curl():
    """curl signs and sends what it reads, and prints the acknowledgements: by HTTP/1.1 and HTTP/2, plain and encrypted."""
    program = shutil.which("curl")
    if not program:
        print("skipped: there is no curl")
        return
    chunked = ("-H", "Transfer-Encoding: chunked")
    ways = [
        (URL, "test:test", chunked),
        (URL, "test:test", ("--http2-prior-knowledge",)),
        (TLS_URL, "test:test", ("--cacert", CHAIN, "--http1.1", *chunked)),
        (TLS_URL, "test:test", ("--cacert", CHAIN, "--http2")),
        (KEYED_URL, "AKIDCAMERA:camera-secret", chunked),
    ]
    VIDEO.create_stream(StreamName="curl", DataRetentionInHours=1)
    common.client(TLS_URL, "kinesisvideo", verify=CHAIN).create_stream(StreamName="curl", DataRetentionInHours=1)
    common.client(KEYED_URL, "kinesisvideo", **ADMIN).create_stream(StreamName="curl", DataRetentionInHours=1)
    for number, (url, keys, how) in enumerate(ways):
        command = [
            *(program, "--silent", "--show-error", "--no-buffer", "--aws-sigv4", f"aws:amz:{common.REGION}:kinesisvideo", "--user", keys),
            *("-X", "POST", "-T", "-", *how, "-H", "x-amzn-stream-name: curl", "-w", "%{stderr}HTTP/%{http_version}"),
            *("-H", "x-amzn-fragment-timecode-type: RELATIVE", "-H", f"x-amzn-producer-start-timestamp: {START + 100 * number}"),
            *("-H", "x-amzn-fragment-acknowledgment-required: 1", f"{url}/putMedia"),
        ]
        done = subprocess.run(command, input=film(3), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        acks = [json.loads(line) for line in done.stdout.splitlines()]
        assert [ack["EventType"] for ack in acks].count("PERSISTED") == 3, (how, done.stdout, done.stderr)
        version = b"HTTP/2" if any(option.startswith("--http2") for option in how) else b"HTTP/1.1"
        assert done.stderr == version, (how, done.stderr)
        count("fragments put", 3)


ADMIN = {"aws_access_key_id": "AKIDADMIN", "aws_secret_access_key": "admin-secret"}
VIEWER = {"aws_access_key_id": "AKIDVIEWER", "aws_secret_access_key": "viewer-secret"}


def keys():
    """Signatures are checked, and policies say who may do what to which stream."""
    admin, viewer = (common.client(KEYED_URL, "kinesisvideo", **keys) for keys in (ADMIN, VIEWER))
    admin.create_stream(StreamName="door", DataRetentionInHours=1, Tags={"public": "yes"})
    admin.create_stream(StreamName="vault", DataRetentionInHours=1)
    camera = ("AKIDCAMERA", "camera-secret")
    put(KEYED_URL, "door", film(2), keys=camera)
    refusal = Producer(KEYED_URL, "vault", keys=camera)
    assert (refusal.response.status, refusal.response.headers["x-amzn-errortype"]) == (401, "AccessDeniedException")
    refusal = Producer(KEYED_URL, "door", keys=("AKIDCAMERA", "wrong"))
    assert (refusal.response.status, refusal.response.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    refused("AccessDeniedException", 401, viewer.delete_stream, StreamARN=admin.describe_stream(StreamName="door")["StreamInfo"]["StreamARN"])
    refused("AccessDeniedException", 401, viewer.describe_stream, StreamName="vault")
    refused("AccessDeniedException", 401, viewer.describe_stream, StreamName="nowhere")
    assert viewer.describe_stream(StreamName="door")["StreamInfo"]["StreamName"] == "door"
    archive = common.client(KEYED_URL, "kinesis-video-archived-media", **VIEWER)
    url = archive.get_hls_streaming_session_url(StreamName="door")["HLSStreamingSessionURL"]
    # Anyone who has the URL may play, as in Kinesis.
    assert fetch(url).startswith(b"#EXTM3U")
    refused("AccessDeniedException", 401, archive.get_hls_streaming_session_url, StreamName="vault")
    refused("AccessDeniedException", 401, archive.get_clip, StreamName="door", ClipFragmentSelector={
        "FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at(0), "EndTimestamp": at(60)}
    })


if __name__ == "__main__":
    os.environ["no_proxy"] = "*"
    control()
    frames, numbers = media()
    clips(frames)
    played(frames, numbers)
    replayed(frames, numbers)
    live()
    bad_media()
    keys()
    curl()
    common.finish(**{what.replace(" ", "_"): number for what, number in COUNTS.items()})
