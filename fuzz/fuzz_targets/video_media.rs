//! Any bytes as a fragment of Matroska; parsed media is written in each container. The last byte shifts it in time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamlog::video::{
    CodecChanges, Media, PlacedMedia, SegmentPlace, fmp4_init, fmp4_segment, ts_segment, write_clip,
};

/// Checks that boxes fill the output exactly.
fn check_boxes(mut bytes: &[u8]) {
    while let [a, b, c, d, ..] = *bytes {
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!((8..=bytes.len()).contains(&size));
        bytes = &bytes[size..];
    }
    assert!(bytes.is_empty());
}

fuzz_target!(|data: &[u8]| {
    let Some((&moved, file)) = data.split_last() else { return };
    let Ok(media) = Media::parse(file) else { return };
    let bytes: usize = media.frames.iter().map(|frame| frame.data.len()).sum();
    // Frames do not overlap, except for the stripped header of each.
    assert!(bytes <= file.len() + 64 * media.frames.len());

    let offset_ns = i64::from(moved as i8) << 40;
    if let Ok(init) = fmp4_init(&media.tracks) {
        check_boxes(&init);
    }
    let place = SegmentPlace { offset_ns, ..SegmentPlace::default() };
    if let Ok(segment) = fmp4_segment(&media, place) {
        check_boxes(&segment);
    }
    if let Ok(segment) = ts_segment(&media, offset_ns) {
        assert!(segment.chunks(188).all(|packet| packet.len() == 188 && packet[0] == 0x47));
    }
    let mut clip = vec![];
    let placed = [PlacedMedia { media: &media, offset_ns: 0 }, PlacedMedia { media: &media, offset_ns }];
    if write_clip(&placed, CodecChanges::Describe, &mut clip).is_ok() {
        check_boxes(&clip);
    }
});
