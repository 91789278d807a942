//! Writes the seeds, `fuzz/seeds/<target>/*`: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use streamlog::aggregate::Aggregator;
use streamlog::{
    Compression, HashKey, Maintenance, ManualClock, PutRecord, SECOND, StreamOptions, Timestamp,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let save = |target: &str, name: &str, parts: &[&[u8]]| {
        fs::create_dir_all(seeds.join(target))?;
        fs::write(seeds.join(target).join(name), parts.concat())
    };
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let options = StreamOptions::new().shards(2).segment_bytes(64 << 10).maintenance(Maintenance::Manual);
    let stream = options.sync_interval(None).clock(clock.clone()).open(path)?;
    for (key, data) in [("user-17", &b"clicked"[..]), ("u", &[]), ("k", &[0x2e; 4_100]), ("x", b"last")] {
        let record = PutRecord::new(key, data).explicit_hash_key(HashKey::MIN);
        let record = if key == "u" { record.header("trace", "4bf92f35").header("empty", "") } else { record };
        stream.put_record(&record)?;
        clock.advance(SECOND);
    }
    let batch = [("a", "1"), ("b", ""), ("c", "three")];
    let batch = batch.map(|(key, data)| PutRecord::new(key, data).explicit_hash_key(HashKey::MIN));
    stream.put_batch(&batch)?;
    let segment = path.join("shards/000000000000/00000000000000000000.seg");
    let unsealed = fs::read(&segment)?;
    stream.close()?;
    let sealed = fs::read(&segment)?;

    let trailer_at = sealed.len() - 88;
    let number = |at: usize| u64::from_le_bytes(sealed[at..at + 8].try_into().unwrap()) as usize;
    let frames_end = number(trailer_at + 8);
    save("header", "whole", &[&sealed[..4096], &[0]])?;
    save("header", "start", &[&sealed[..64], &[7]])?;
    save("index", "entries", &[&[0; 16], &sealed[frames_end..trailer_at]])?;
    save("trailer", "as_it_is", &[&sealed[trailer_at..], &[0]])?;
    save("trailer", "signed", &[&sealed[trailer_at..], &[3]])?;
    let (mut at, mut frames) = (4096, 0);
    while at < frames_end {
        let len = u32::from_le_bytes(sealed[at..at + 4].try_into()?) as usize;
        if len < 1_000 {
            save("frame", &format!("signed_{frames}"), &[&sealed[at..at + len], &[3]])?;
        }
        (at, frames) = (at + len, frames + 1);
    }
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::zstd())] {
        let path = directory.path().join(name);
        let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
        let stream = options.sync_interval(None).compression(compression).clock(clock.clone()).open(&path)?;
        let batch: Vec<_> = (0..40).map(|_| PutRecord::new("user-17", "clicked on the page")).collect();
        stream.put_batch(&batch)?;
        stream.close()?;
        let file = fs::read(path.join("shards/000000000000/00000000000000000000.seg"))?;
        let len = u32::from_le_bytes(file[4096..4100].try_into()?) as usize;
        let frame = &file[4096..4096 + len];
        save("frame", name, &[frame, &[3]])?;
        let (lens, packed) = frame[32..].split_at(8);
        let packed = &packed[..u32::from_le_bytes(lens[4..].try_into()?) as usize];
        let method = u8::from(name == "zstd");
        save("packed", &format!("{name}_claimed"), &[&lens[..4], packed, &[40, method]])?;
        save("packed", &format!("{name}_measured"), &[packed, &[40, method | 2]])?;
        let record = [&7u32.to_le_bytes()[..], &19u32.to_le_bytes(), b"user-17clicked on the page"].concat();
        save("packed", &format!("{name}_to_compress"), &[&record.repeat(40), &[40, method | 4]])?;
        save("segment_file", name, &[&file, &[0]])?;
        save("segment_file", &format!("composed_{name}"), &[&[0; 24], frame, &[15]])?;
    }
    save("segment_file", "sealed", &[&sealed, &[0]])?;
    save("segment_file", "unsealed", &[&unsealed[..frames_end], &[0; 64], &[0]])?;
    save("segment_file", "empty", &[&sealed[..4096], &[0]])?;
    // Composed files: 24 bytes for the live words, then frames; the modes are those of the target.
    let words = [(frames_end as u64).to_le_bytes(), 4096u64.to_le_bytes(), [0; 8]].concat();
    for mode in [1, 3, 7, 15, 31, 63, 127] {
        save("segment_file", &format!("composed_{mode}"), &[&words, &sealed[4096..4096 + 56 + 80], &[mode]])?;
    }
    let camera = [
        &[0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255][..],
        &[0x16, 0x54, 0xAE, 0x6B, 0x85, 0xAE, 0x83, 0xD7, 0x81, 1],
        // A cluster of known size with a frame, and one of unknown size with a laced group.
        &[0x1F, 0x43, 0xB6, 0x75, 0x8A, 0xE7, 0x81, 0, 0xA3, 0x85, 0x81, 0, 0, 0x80, 7],
        &[
            0x12, 0x54, 0xC3, 0x67, 0x8D, 0x73, 0x73, 0x8A, 0x67, 0xC8, 0x87, 0x45, 0xA3, 0x81, b'n', 0x44,
            0x87, 0x80,
        ],
        &[
            0x1F, 0x43, 0xB6, 0x75, 0xFF, 0xE7, 0x81, 40, 0xA0, 0x8B, 0xA1, 0x86, 0x81, 0, 5, 4, 1, 7, 0x9B,
            0x81, 9,
        ],
    ];
    save("video", "camera", &[&[9, 0], &camera.concat()])?;
    let mut aggregator = Aggregator::new();
    for (key, hash_key, data) in [("a", None, "x"), ("b", Some(7), "yz"), ("a", None, "")] {
        let record = PutRecord::new(key, data);
        let record = match hash_key {
            Some(hash_key) => record.explicit_hash_key(HashKey::new(hash_key)),
            None => record,
        };
        aggregator.add(&record)?;
    }
    let aggregate = aggregator.finish().ok_or("three user records were added")?.data;
    save("aggregate", "as_it_is", &[&aggregate, &[0]])?;
    save("aggregate", "signed", &[&aggregate[4..aggregate.len() - 16], &[1]])?;
    // A tag, an unknown group, an index that is not in the table.
    let odd = [
        &b"\n\x01a\x12\x017\x1a\x0a\x08\0\x1a\0\"\x04\n\x02kk"[..],
        b"\x2b\x08\x01\x2c\x1a\x04\x08\x05\x1a\0",
    ];
    save("aggregate", "odd", &[odd[0], odd[1], &[1]])?;
    // The manifest of a stream without records, which opens without a segment.
    let empty = directory.path().join("empty");
    StreamOptions::new().shards(2).maintenance(Maintenance::Manual).clock(clock).open(&empty)?.close()?;
    // Its last byte is a line feed, so the target takes this seed as text.
    save("manifest", "two_shards", &[&fs::read(empty.join("manifest.json"))?])?;
    save("manifest", "numbers", &[&[0; 36], &[1, 0, 0, 0, 4, 0, 0, 0, 0, 0]])?;
    // Signed by botocore, at the time that the target takes as now.
    let scope = "20260131/eu-west-1/kinesis/aws4_request";
    let target = "x-amz-target: Kinesis_20131202.PutRecord\ncontent-type: application/x-amz-json-1.1";
    let body = r#"{"StreamName":"clicks","Data":"aGVsbG8=","PartitionKey":"k"}"#;
    let header = format!(
        "POST /\nhost: 127.0.0.1:4567\n{target}\nx-amz-date: 20260131T235800Z\nauthorization: AWS4-HMAC-SHA256 \
         Credential=AKIDALICE/{scope}, SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
         Signature=13d8015ff716665005920f221162de2a4902b0f4cc51bce129ff8e2152cc4e7c\n\n{body}"
    );
    let query = format!(
        "GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDALICE%2F{}&X-Amz-Date=20260131T235800Z\
         &X-Amz-Expires=604800&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=8ced9bee3072bf7a1e489c82288dde9a7aee55ac587d24c22d36b469a9eecb16\nhost: 127.0.0.1:4567\n\n",
        scope.replace('/', "%2F")
    );
    save("signature", "header", &[header.as_bytes()])?;
    save("signature", "query", &[query.as_bytes()])?;
    let tail = b"\0arn:aws:kinesis:eu-west-1:123456789012:stream/clicks\0Boto3/1.40";
    let of_stream = br#"{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::123456789012:root","*"]},"Action":["kinesis:Put*"],"Resource":"arn:aws:kinesis:*:*:stream/c?icks"},{"Effect":"Deny","NotPrincipal":{"AWS":"123456789012"},"NotAction":"*","NotResource":"*"}]}"#;
    let of_user = br#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/${aws:username, 'clicks'}","Condition":{"StringLike":{"aws:UserAgent":["Boto3/*","${*}"]},"ForAllValues:StringEqualsIfExists":{"aws:TagKeys":"Stage"},"NumericLessThan":{"aws:EpochTime":1e12},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00+01:00"},"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::/32"]},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"},"Null":{"aws:ResourceTag/Team":false},"Bool":{"aws:SecureTransport":"true"},"BinaryEquals":{"aws:username":"YWxpY2U="}}}}"#;
    save("policy", "of_stream", &[of_stream, tail])?;
    save("policy", "of_user", &[of_user, tail])?;
    save("operations", "puts", &[&(0..200u8).collect::<Vec<_>>()])?;
    save("operations", "zeros", &[&[0; 64]])?;
    Ok(())
}
