//! `streamlog video`: ingesting Matroska, listing fragments, making clips, and requesting a URL from a gateway.

use super::*;

/// Runs the tool with arguments of `video`.
fn video(arguments: &[&str]) -> Command {
    let mut command = Command::new(tool());
    command.arg("video").args(arguments).stdin(Stdio::null());
    command
}

#[cfg(not(feature = "video"))]
#[test]
fn a_tool_without_video_says_so() {
    let output = video(&["list", "no-such-directory"]).output().unwrap();
    fails(&output, &["built without video: build it with --features video"]);
}

#[cfg(feature = "video")]
mod with_video {
    use std::net::TcpListener;

    use streamlog::video::VideoStream;

    use super::*;
    use crate::common::video::media::{self, AAC, H264, Recipe};
    use crate::common::video::mkv;

    /// A directory for a stream, and the files beside it.
    struct Camera {
        directory: tempfile::TempDir,
    }

    impl Camera {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> String {
            self.directory.path().join(name).to_str().unwrap().to_owned()
        }

        fn stream(&self) -> String {
            self.path("door")
        }

        /// Puts a file.
        fn put(&self, media: &[u8], options: &[&str]) -> Output {
            let file = self.path("input.mkv");
            std::fs::write(&file, media).unwrap();
            video(&[&["put", &self.stream(), &file], options].concat()).output().unwrap()
        }

        fn run(&self, name: &str, options: &[&str]) -> Output {
            video(&[&[name, &self.stream()], options].concat()).output().unwrap()
        }

        fn print(&self, name: &str, options: &[&str]) -> String {
            let output = self.run(name, options);
            succeeds(&output);
            String::from_utf8(output.stdout).unwrap()
        }

        fn list(&self, options: &[&str]) -> Vec<Value> {
            let printed = self.print("list", &[options, &["--json"]].concat());
            let listed: Value = serde_json::from_str(&printed).unwrap();
            listed["fragments"].as_array().unwrap().clone()
        }

        /// The files beside the stream and the input.
        fn others(&self) -> Vec<String> {
            let names = std::fs::read_dir(self.directory.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| !["door", "input.mkv"].contains(&&**name)).collect()
        }
    }

    #[test]
    fn a_file_is_put_acknowledged_and_listed() {
        let camera = Camera::new();
        let output = camera
            .put(&mkv::live(0..4), &["--acks", "--start", "2026-11-30T12:00:00Z", "--retention", "3650days"]);
        succeeds(&output);
        let told = stderr(&output);
        assert!(told.starts_with("streamlog: 4 fragments of 4s, ") && told.ends_with(" read\n"), "{told}");
        let acks = json_lines(&output.stdout);
        let events: Vec<_> = acks.iter().map(|ack| ack["EventType"].as_str().unwrap()).collect();
        assert_eq!(events, ["BUFFERING", "RECEIVED", "PERSISTED"].repeat(4));

        let fragments = camera.list(&[]);
        let times: Vec<_> = fragments.iter().map(|it| it["producer_time"].as_str().unwrap()).collect();
        assert_eq!(times, [0, 1, 2, 3].map(|second| format!("2026-11-30T12:00:0{second}.000000Z")));
        assert_eq!(fragments[0]["length_seconds"], 1.0);
        let numbers: Vec<_> = fragments.iter().map(|it| it["number"].clone()).collect();
        let acked: Vec<_> = acks.iter().step_by(3).map(|ack| ack["FragmentNumber"].clone()).collect();
        assert_eq!(numbers, acked);

        let text = camera.print("list", &["-n", "1"]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (column, cell) in
            [("fragment", numbers[3].as_str().unwrap()), ("begins", times[3]), ("length", "1s")]
        {
            assert!(lines[0].contains(column) && lines[1].contains(cell), "{text}");
        }
        let numbers_of =
            |options: &[&str]| camera.list(options).iter().map(|it| it["number"].clone()).collect::<Vec<_>>();
        let (from, to) = ("2026-11-30T12:00:01Z", "2026-11-30T12:00:02Z");
        assert_eq!(numbers_of(&["--from", from, "--to", to]), numbers[1..3]);
        assert_eq!(numbers_of(&["--from", from]), numbers[1..]);
        assert_eq!(numbers_of(&["--to", to, "-n", "2"]), numbers[1..3]);
        let arrived = fragments[2]["server_time_micros"].as_u64().unwrap();
        let until = format!("@{}.{:06}", arrived / 1_000_000, arrived % 1_000_000);
        assert_eq!(numbers_of(&["--by-arrival", "--to", &until]), numbers[..3]);
        assert_eq!(numbers_of(&["--by-arrival", "--from", &until]), numbers[2..]);
    }

    #[test]
    fn what_is_sent_is_stored_while_the_producer_still_sends_and_seen_beside_it() {
        let camera = Camera::new();
        let mut put = video(&["put", &camera.stream(), "-", "--acks"]);
        let mut put =
            put.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut sender = put.stdin.take().unwrap();
        sender.write_all(&mkv::live(0..2)).unwrap();
        let mut acks = BufReader::new(put.stdout.take().unwrap()).lines();
        let persisted = acks.by_ref().filter(|ack| ack.as_ref().unwrap().contains("PERSISTED")).take(2);
        assert_eq!(persisted.count(), 2);
        assert_eq!(camera.list(&[]).len(), 2, "beside the process that has the stream open");
        assert_eq!(camera.others(), [""; 0], "and nothing is left of that");
        fails(&camera.put(&mkv::live(0..1), &[]), &["is open in process", "streamlog"]);

        sender.write_all(&mkv::simple_cluster(2_000, 25, b"frame")).unwrap();
        assert!(Command::new("kill").args(["-INT", &put.id().to_string()]).status().unwrap().success());
        assert_eq!(ends(put).status.code(), Some(130));
        drop(sender);
        let count = camera.list(&[]).len();
        assert!((2..=3).contains(&count), "{count}");
        assert!(Stream::open(camera.stream()).unwrap().recovery().was_closed_cleanly());
    }

    #[test]
    fn what_is_refused_is_named_with_its_number_and_what_came_before_is_there() {
        let camera = Camera::new();
        let bad = [mkv::live(0..2), vec![0; 100]].concat();
        let output = camera.put(&bad, &["--acks"]);
        fails(&output, &["4006 INVALID_MKV_DATA", "2 fragments of 2s"]);
        assert_eq!(json_lines(&output.stdout).last().unwrap()["ErrorId"], 4006);
        assert_eq!(camera.list(&[]).len(), 2);

        let output = camera.put(&mkv::live(0..1), &["--tag", "no value"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let output = camera.put(&mkv::live(0..1), &["--tag", &format!("{}=x", "n".repeat(200))]);
        fails(&output, &["4009 FRAGMENT_METADATA_LIMIT_REACHED"]);
        assert_eq!(camera.list(&[]).len(), 2);
        let missing = camera.path("missing.mkv");
        let output = video(&["put", &camera.path("new"), &missing]).output().unwrap();
        fails(&output, &["cannot read", "missing.mkv"]);
        assert_eq!(camera.others(), [""; 0], "no stream is made for a file that is not there");
    }

    #[test]
    fn only_a_video_stream_that_is_there_is_looked_at() {
        let camera = Camera::new();
        fails(&camera.run("list", &[]), &["door"]);
        fails(&camera.run("clip", &["--all", "-o", &camera.path("clip.mp4")]), &["door"]);
        assert_eq!(camera.others(), [""; 0]);
        let place = Place::create(&[]);
        succeeds(&place.put(b"a line\n", &[]));
        let path = place.stream();
        let output = video(&["list", path.to_str().unwrap()]).output().unwrap();
        fails(&output, &["is not one of video"]);
        let output = video(&["put", path.to_str().unwrap(), "-"]).output().unwrap();
        fails(&output, &["is not one of video"]);
        assert_eq!(place.cat(&[]), b"a line\n");
    }

    #[test]
    fn a_clip_that_cannot_be_made_leaves_the_old_file_alone() {
        let camera = Camera::new();
        // Its codec parameters are invalid.
        succeeds(&camera.put(&mkv::live(0..2), &[]));
        let clip = camera.path("clip.mp4");
        std::fs::write(&clip, "an older clip").unwrap();
        fails(&camera.run("clip", &["--all", "-o", &clip]), &["codec private data"]);
        fails(
            &camera.run("clip", &["--to", "2020-01-01T00:00:00Z", "-o", &clip]),
            &["no fragment in this range"],
        );
        assert_eq!(std::fs::read(&clip).unwrap(), b"an older clip");
        assert_eq!(camera.others(), ["clip.mp4"]);
        for wrong in [&["-o", &clip][..], &["--all", "--last", "1m", "-o", &clip], &["--all"]] {
            assert_eq!(camera.run("clip", wrong).status.code(), Some(2), "{wrong:?}");
        }
    }

    #[test]
    fn ffmpeg_plays_clips_of_what_ffmpeg_has_sent() {
        let Some(ffmpeg) = media::ffmpeg() else { return };
        let camera = Camera::new();
        let recipe = Recipe { seconds: 6, video: Some(H264), audio: Some(AAC), ..Recipe::default() };
        let sent = recipe.generate(&ffmpeg);
        let mut put = video(&["put", &camera.stream(), "-", "--sparse-tracks"]);
        let mut put = put.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(&sent).unwrap();
        succeeds(&ends(put));

        let clip = camera.path("clip.mp4");
        let told = camera.print("clip", &["--all", "-o", &clip]);
        assert!(told.starts_with(&format!("{clip}: ")), "{told}");
        let whole = std::fs::read(&clip).unwrap();
        let hashes = |media: &[u8]| {
            ffmpeg.decoded(media, "v:0").into_iter().map(|frame| frame.hash).collect::<Vec<_>>()
        };
        let all = ffmpeg.source_decoded(&sent, "v:0").into_iter().map(|frame| frame.hash).collect::<Vec<_>>();
        assert_eq!((all.len(), hashes(&whole)), (150, all.clone()));
        // The output is the same on standard output, and while a program has the stream open.
        let open = VideoStream::open(camera.stream()).unwrap();
        assert!(camera.run("clip", &["--all", "-o", "-"]).stdout == whole);
        camera.print("clip", &["--last", "2s", "-o", &clip]);
        open.close().unwrap();
        let last = hashes(&std::fs::read(&clip).unwrap());
        assert!(last.len() >= 25 && last.len() <= 50 && all.ends_with(&last), "{}", last.len());
        assert_eq!(camera.others(), ["clip.mp4"]);
    }

    /// Answers one request as a gateway does, and returns the request.
    fn gateway(status: &'static str, answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answered = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut asked = vec![];
            // The body is JSON, and ends with the only brace that is followed by nothing.
            let is_whole = |asked: &[u8]| {
                let text = String::from_utf8_lossy(asked).into_owned();
                text.split_once("\r\n\r\n")
                    .is_some_and(|(_, body)| serde_json::from_str::<Value>(body).is_ok())
            };
            while !is_whole(&asked) {
                let mut piece = [0; 4096];
                let len = connection.read(&mut piece).unwrap();
                assert!(len > 0, "{asked:?}");
                asked.extend_from_slice(&piece[..len]);
            }
            let len = answer.len();
            write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n{answer}").unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, answered)
    }

    #[test]
    fn a_gateway_is_asked_for_the_url_that_plays_a_stream() {
        let (url, asked) = gateway("200 OK", r#"{"HLSStreamingSessionURL":"http://127.0.0.1/hls"}"#);
        let options = ["--from", "@1700000000.5", "--to", "@1700000060", "--expires", "10m"];
        let output = video(&[&["play-url", &url, "door"][..], &options].concat()).output().unwrap();
        succeeds(&output);
        assert_eq!(output.stdout, b"http://127.0.0.1/hls\n");
        let asked = asked.join().unwrap();
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /getHLSStreamingSessionURL HTTP/1.1\r\n"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["StreamName"], &body["Expires"]), (&"door".into(), &600.into()));
        assert_eq!(body["PlaybackMode"], "ON_DEMAND");
        let range = &body["HLSFragmentSelector"]["TimestampRange"];
        assert_eq!(
            (range["StartTimestamp"].as_f64(), range["EndTimestamp"].as_f64()),
            (Some(1.7e9 + 0.5), Some(1.7e9 + 60.0))
        );

        let (url, asked) = gateway("404 Not Found", r#"{"Message":"there is no door"}"#);
        fails(&video(&["play-url", &url, "door"]).output().unwrap(), &["there is no door"]);
        assert!(asked.join().unwrap().contains(r#""PlaybackMode":"LIVE""#));
        fails(&video(&["play-url", "ftp://here", "door"]).output().unwrap(), &["http://HOST:PORT"]);
    }
}
