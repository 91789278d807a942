//! Video streams, as their callers and players see them.

use tokio::sync::mpsc;

use super::*;
use crate::gateway::http::Piece;

/// Matroska with a track of AAC and a fragment of a second for each second.
fn sound(seconds: u64) -> Vec<u8> {
    fn element(id: &[u8], payload: &[u8]) -> Vec<u8> {
        let size = (payload.len() as u64 | 1 << 56).to_be_bytes();
        [id, &size, payload].concat()
    }
    let audio = [element(&[0xB5], &48_000f32.to_be_bytes()), element(&[0x9F], &[2])].concat();
    let track = [
        element(&[0xD7], &[1]),
        element(&[0x83], &[2]),
        element(&[0x86], b"A_AAC"),
        element(&[0x63, 0xA2], &[0x11, 0x90]),
        element(&[0x23, 0xE3, 0x83], &1_000_000_000u64.to_be_bytes()),
        element(&[0xE1], &audio),
    ];
    let mut data = element(&[0x1A, 0x45, 0xDF, 0xA3], &element(&[0x42, 0x82], b"matroska"));
    data.extend([0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255]);
    data.extend(element(&[0x16, 0x54, 0xAE, 0x6B], &element(&[0xAE], &track.concat())));
    for second in 0..seconds {
        let timecode = element(&[0xE7], &(second * 1_000).to_be_bytes());
        let block = element(&[0xA3], &[&[0x81, 0, 0, 0x80][..], &[7; 100]].concat());
        data.extend(element(&[0x1F, 0x43, 0xB6, 0x75], &[timecode, block].concat()));
    }
    data
}

impl World {
    fn video_request(&self, method: Method, path: &str, body: &Json) -> Request {
        let mut request = self.signed("", if body.is_null() { String::new() } else { body.to_string() });
        request.headers.remove("x-amz-target");
        request.headers.insert("content-type", "application/json".parse().unwrap());
        request.headers.insert("host", "camera.example:4567".parse().unwrap());
        request.method = method;
        request.uri = path.parse().unwrap();
        request
    }

    fn video(&self, path: &str, body: Json) -> (u16, Json) {
        let (status, body) = self.send(&self.video_request(Method::POST, path, &body));
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[track_caller]
    fn video_ok(&self, path: &str, body: Json) -> Json {
        let (status, body) = self.video(path, body);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Returns the status, the kind of an error, and the body of the answer to a player.
    fn play(&self, url: &str) -> (u16, String, String) {
        let path = url.strip_prefix("http://camera.example:4567").unwrap_or(url);
        let answer = self.answer(&self.video_request(Method::GET, path, &Json::Null));
        let kind =
            answer.headers.get("x-amzn-errortype").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let Body::Whole(body) = answer.body else { panic!("pieces") };
        (answer.status.as_u16(), kind, String::from_utf8_lossy(&body).into_owned())
    }

    /// Puts media, and returns the acknowledgements.
    fn put_media(&self, stream: &str, data: &[u8]) -> Vec<Json> {
        let mut request = self.video_request(Method::POST, "/putMedia", &Json::Null);
        for (name, value) in [
            ("x-amzn-stream-name", stream),
            ("x-amzn-fragment-timecode-type", "RELATIVE"),
            ("x-amzn-fragment-acknowledgment-required", "1"),
        ] {
            request.headers.insert(name, value.parse().unwrap());
        }
        let (to, pieces) = mpsc::channel(1);
        let answer = {
            let _entered = self.runtime.enter();
            let Answering::Now(answer) = Arc::clone(self.front()).answer_pieces(request, pieces) else {
                panic!("later")
            };
            answer
        };
        let Body::Pieces(mut acks) = answer.body else { panic!("{}", answer.status) };
        self.runtime.block_on(async {
            for part in data.chunks(97) {
                to.send(Piece::Data(Bytes::copy_from_slice(part))).await.unwrap();
            }
            to.send(Piece::End).await.unwrap();
            let mut all = vec![];
            while let Some(ack) = acks.recv().await {
                all.push(serde_json::from_slice(&ack).unwrap());
            }
            all
        })
    }
}

#[test]
fn requests_name_the_operation_in_their_path() {
    let world = World::new();
    world.video_ok("/createStream", json!({"StreamName": "door", "DataRetentionInHours": 1}));
    // boto3 sends no body if there are no parameters.
    let listed = world.video_ok("/listStreams", Json::Null);
    assert_eq!(listed["StreamInfoList"][0]["StreamName"], "door");
    let endpoint = world.video_ok("/getDataEndpoint", json!({"StreamName": "door", "APIName": "GET_MEDIA"}));
    assert_eq!(endpoint["DataEndpoint"], "http://camera.example:4567");
    // Operations of Kinesis are named in a header, whatever the path is.
    let mut request =
        world.signed("CreateStream", json!({"StreamName": "door", "ShardCount": 1}).to_string());
    request.uri = "/createStream".parse().unwrap();
    assert_eq!(world.send(&request).0, 200);
    assert_eq!(world.ok("ListStreams", json!({}))["StreamNames"], json!(["door"]));
    for (path, status) in [("/createTea", 404), ("/", 404), ("/CREATEStream", 404), ("/createStream/", 404)] {
        let request = world.video_request(Method::POST, path, &json!({"StreamName": "other"}));
        assert_eq!(world.send(&request).0, status, "{path}");
    }
    assert_eq!(world.video_ok("/listStreams", json!({}))["StreamInfoList"].as_array().unwrap().len(), 1);
}

#[test]
fn bodies_that_are_wrong_are_refused() {
    let world = World::new();
    let refused = |body: &str| {
        let mut request = world.video_request(Method::POST, "/createStream", &Json::Null);
        request.body = Bytes::copy_from_slice(body.as_bytes());
        let answer = world.answer(&request);
        (answer.status.as_u16(), answer.headers["x-amzn-errortype"].to_str().unwrap().to_owned())
    };
    for (body, kind) in [
        ("{", "SerializationException"),
        ("[]", "SerializationException"),
        ("{}", "InvalidArgumentException"),
        (r#"{"StreamName": "a b"}"#, "InvalidArgumentException"),
        (r#"{"StreamName": ".."}"#, "InvalidArgumentException"),
        (r#"{"StreamName": "a", "DataRetentionInHours": -1}"#, "InvalidArgumentException"),
        (r#"{"StreamName": "a", "MediaType": "video"}"#, "InvalidArgumentException"),
        (r#"{"StreamName": "a", "Tags": {"<": ""}}"#, "InvalidArgumentException"),
    ] {
        assert_eq!(refused(body), (400, kind.to_owned()), "{body}");
    }
    let arn = format!("arn:aws:kinesisvideo:us-east-1:{ACCOUNT}:stream/../1");
    assert_eq!(world.video("/describeStream", json!({"StreamARN": arn})).0, 404);
}

#[test]
fn a_session_goes_on_after_a_restart_and_ends_with_its_time() {
    let mut world = World::new();
    world.video_ok("/createStream", json!({"StreamName": "door", "DataRetentionInHours": 1}));
    let acks = world.put_media("door", &sound(3));
    let persisted: Vec<_> = acks.iter().filter(|ack| ack["EventType"] == "PERSISTED").collect();
    assert_eq!(persisted.len(), 3, "{acks:?}");
    let asked = json!({"StreamName": "door", "Expires": 300, "MaxMediaPlaylistFragmentResults": 2});
    let url = world.video_ok("/getHLSStreamingSessionURL", asked)["HLSStreamingSessionURL"].clone();
    let url = url.as_str().unwrap();
    let (status, _, master) = world.play(url);
    assert!(status == 200 && master.contains("mp4a.40.2"), "{master}");
    let media = format!("/hls/v1/{}", master.lines().last().unwrap());
    let playlist = world.play(&media).2;
    assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:0\n"), "{playlist}");
    world.put_media("door", &sound(4)[..]);
    let moved = world.play(&media).2;
    assert!(moved.contains("#EXT-X-MEDIA-SEQUENCE:4\n"), "{moved}");
    world.front().service.video.close();
    world.restart(|_| {});
    assert_eq!(world.play(&media).2, moved);
    let fragment = format!("/hls/v1/{}", moved.lines().last().unwrap());
    let (status, _, body) = world.play(&fragment);
    assert!(status == 200 && body.contains("moof") && body.contains("mdat"), "{body}");
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(world.play(&media).0, 200);
    world.clock.advance(Duration::from_secs(1));
    let (status, kind, _) = world.play(&media);
    assert_eq!((status, &*kind), (401, "NotAuthorizedException"));
}

#[test]
fn a_token_is_good_for_its_own_stream_and_server_only() {
    let world = World::new();
    let create = || world.video_ok("/createStream", json!({"StreamName": "door", "DataRetentionInHours": 1}));
    let arn = create()["StreamARN"].clone();
    world.put_media("door", &sound(1));
    let session = |world: &World| {
        let url = world.video_ok("/getDASHStreamingSessionURL", json!({"StreamName": "door"}));
        url["DASHStreamingSessionURL"].as_str().unwrap().to_owned()
    };
    let url = session(&world);
    let (status, _, manifest) = world.play(&url);
    assert!(status == 200 && manifest.contains("<MPD "), "{manifest}");
    // A DASH session is not an HLS session.
    let other = url.replace("/dash/v1/getDASHManifest.mpd", "/hls/v1/getHLSMediaPlaylist.m3u8");
    assert_eq!(world.play(&other).0, 404);
    let iterator = "/hls/v1/getHLSMediaPlaylist.m3u8?SessionToken=AAAAAAAAAAE";
    assert_eq!(world.play(iterator).0, 401);
    // The name now belongs to another stream.
    world.video_ok("/deleteStream", json!({"StreamARN": arn}));
    assert_eq!(world.play(&url).0, 404);
    world.clock.advance(Duration::from_millis(5));
    assert_ne!(create()["StreamARN"], arn);
    world.put_media("door", &sound(1));
    let (status, kind, _) = world.play(&url);
    assert_eq!((status, &*kind), (404, "ResourceNotFoundException"));
    assert_eq!(world.play(&session(&world)).0, 200);
}

#[test]
fn what_is_kept_of_a_stream_is_there_after_a_restart() {
    let mut world = World::new();
    let asked = json!({
        "StreamName": "door", "DataRetentionInHours": 3, "DeviceName": "camera", "MediaType": "video/h264", "Tags": {"floor": "1"},
    });
    let arn = world.video_ok("/createStream", asked)["StreamARN"].clone();
    let version =
        world.video_ok("/describeStream", json!({"StreamName": "door"}))["StreamInfo"]["Version"].clone();
    let change = json!({
        "StreamARN": arn, "CurrentVersion": version, "Operation": "INCREASE_DATA_RETENTION", "DataRetentionChangeInHours": 2,
    });
    world.video_ok("/updateDataRetention", change);
    let before = world.video_ok("/describeStream", json!({"StreamARN": arn}));
    assert_eq!(before["StreamInfo"]["DataRetentionInHours"], 5);
    world.put_media("door", &sound(2));
    let fragments = world.video_ok("/listFragments", json!({"StreamName": "door"}));
    assert_eq!(fragments["Fragments"].as_array().unwrap().len(), 2);
    world.front().service.video.close();
    world.restart(|_| {});
    assert_eq!(world.video_ok("/describeStream", json!({"StreamARN": arn})), before);
    assert_eq!(world.video_ok("/listFragments", json!({"StreamARN": arn})), fragments);
    assert_eq!(
        world.video_ok("/ListTagsForResource", json!({"ResourceARN": arn}))["Tags"],
        json!({"floor": "1"})
    );
}

#[test]
fn there_is_a_limit_of_connections() {
    let mut world = World::new();
    world.video_ok("/createStream", json!({"StreamName": "door", "DataRetentionInHours": 1}));
    world.front().service.video.close();
    world.restart(|setup| setup.video_connections_max = Some(1));
    let start = json!({"StreamName": "door", "StartSelector": {"StartSelectorType": "NOW"}});
    let first = world.answer(&world.video_request(Method::POST, "/getMedia", &start));
    assert_eq!(first.status, StatusCode::OK);
    let (status, body) = world.video("/getMedia", start.clone());
    assert_eq!(status, 400, "{body}");
    drop(first);
    // The thread of a viewer that has gone ends soon.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.answer(&world.video_request(Method::POST, "/getMedia", &start)).status != StatusCode::OK {
        assert!(std::time::Instant::now() < end, "the place of a viewer that has gone is not free");
        std::thread::sleep(Duration::from_millis(20));
    }
}
