"""Plays a live stream in the console's page, with hls.js: the picture changes, and nothing stalls. Prints how far behind the camera it is.

    python video.py URL FFMPEG

If STREAMLOG_AXE names the file of axe, it looks at the page, too.
"""

import http.client
import os
import subprocess
import sys
import threading
import time
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import boto3
from playwright.sync_api import expect

from browser import SECRET, Page, browser, eventually

URL, FFMPEG = sys.argv[1:3]
SECONDS = 20


class Camera:
    """Sends a clock with a moving picture as it comes, in fragments of a second."""

    def __init__(self, name):
        film = [
            *(FFMPEG, "-hide_banner", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=20"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "20", "-keyint_min", "20"),
            *("-f", "matroska", "-cluster_time_limit", "900", "-live", "1", "-flush_packets", "1", "-"),
        ]
        self.process = subprocess.Popen(film, stdout=subprocess.PIPE)
        parts = urllib.parse.urlsplit(URL)
        headers = {
            "host": parts.netloc,
            "x-amzn-stream-name": name,
            "x-amzn-fragment-timecode-type": "RELATIVE",
            "x-amzn-producer-start-timestamp": f"{time.time():.3f}",
            "x-amzn-fragment-acknowledgment-required": "0",
        }
        request = botocore.awsrequest.AWSRequest("POST", f"{URL}/putMedia", headers=headers, data=b"")
        credentials = botocore.credentials.Credentials("AKADMIN", SECRET)
        botocore.auth.SigV4Auth(credentials, "kinesisvideo", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        connection.putrequest("POST", "/putMedia", skip_host=True)
        for header, value in request.headers.items():
            connection.putheader(header, value)
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders()
        self.socket = connection.sock
        self.response = connection.getresponse()
        assert self.response.status == 200, self.response.read()
        threading.Thread(target=self.send, daemon=True).start()

    def send(self):
        while part := self.process.stdout.read1(65_536):
            self.socket.sendall(b"%x\r\n%s\r\n" % (len(part), part))

    def stop(self):
        self.process.kill()
        self.process.wait()


STATE = """() => {
  const video = document.querySelector('video');
  const canvas = document.createElement('canvas');
  canvas.width = 64; canvas.height = 36;
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 64, 36);
  const pixels = context.getImageData(0, 0, 64, 36).data;
  let hash = 0;
  for (const value of pixels) hash = (hash * 31 + value) | 0;
  return { time: video.currentTime, hash, isPaused: video.paused, waits: window.waits ?? 0, width: video.videoWidth };
}"""



def look(page):
    """Has axe look at the page as it is."""
    if path := os.environ.get("STREAMLOG_AXE"):
        page.evaluate(open(path, encoding="utf-8").read())
        seen = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        found = [(violation["help"], [node["target"] for node in violation["nodes"]][:3]) for violation in seen["violations"]]
        assert found == [], found


video = boto3.client("kinesisvideo", endpoint_url=URL, region_name="us-east-1", aws_access_key_id="AKADMIN", aws_secret_access_key=SECRET)
video.create_stream(StreamName="door", DataRetentionInHours=1, DeviceName="camera-7")
with browser("--autoplay-policy=no-user-gesture-required") as started:
    console = Page(started, URL)
    page = console.page
    console.sign_in()
    page.get_by_role("link", name="Video", exact=True).click()
    expect(page.get_by_role("row", name="door")).to_contain_text("camera-7")
    look(page)
    page.get_by_role("link", name="door").click()
    expect(page.get_by_role("status").first).to_contain_text("Nothing to play now.")
    look(page)
    camera = Camera("door")
    try:
        eventually(lambda: (state := page.evaluate(STATE))["time"] > 0 and not state["isPaused"], 30)
        page.evaluate("() => { window.waits = 0; document.querySelector('video').addEventListener('waiting', () => { window.waits += 1; }); }")
        time.sleep(3)
        page.evaluate("() => { window.waits = 0; }")
        states, delays = [], []
        for _ in range(SECONDS * 2):
            states.append(page.evaluate(STATE))
            behind = page.locator("dl.tiles dd").first.inner_text()
            delays += [float(behind.split()[0])] if behind.endswith(" s") else []
            time.sleep(0.5)
        look(page)
    finally:
        camera.stop()
    assert states[-1]["width"] == 320, states[-1]
    pictures = len({state["hash"] for state in states})
    assert pictures > len(states) * 3 // 4, (pictures, states)
    played = states[-1]["time"] - states[0]["time"]
    assert played > SECONDS * 0.8, (played, states)
    assert states[-1]["waits"] == 0, states[-1]
    delays.sort()
    assert delays and delays[len(delays) // 2] < 8, delays
    assert console.wrong == [], console.wrong
    print(f"video.py: played {played:.1f} s without a stall, {pictures} pictures of {len(states)} differ, {delays[len(delays) // 2]:.1f} s behind the camera")
