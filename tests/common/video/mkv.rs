//! Matroska for tests, assembled by hand, valid or not.

pub const EBML: u32 = 0x1A45_DFA3;
pub const SEGMENT: u32 = 0x1853_8067;
pub const INFO: u32 = 0x1549_A966;
pub const TRACKS: u32 = 0x1654_AE6B;
pub const CLUSTER: u32 = 0x1F43_B675;
pub const TAGS: u32 = 0x1254_C367;
pub const CUES: u32 = 0x1C53_BB6B;
pub const SEEK_HEAD: u32 = 0x114D_9B74;
pub const VOID: u32 = 0xEC;
pub const SIMPLE_BLOCK: u32 = 0xA3;
pub const BLOCK_GROUP: u32 = 0xA0;

/// The size that an element says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Right,
    Unknown,
    /// In 8 bytes.
    Said(u64),
}

/// Returns an element of the right size.
pub fn element(id: u32, payload: &[u8]) -> Vec<u8> {
    sized(id, Size::Right, payload)
}

pub fn sized(id: u32, size: Size, payload: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
    match size {
        Size::Right if payload.len() < 127 => out.push(0x80 | payload.len() as u8),
        Size::Right => out.extend((payload.len() as u64 | 1 << 56).to_be_bytes()),
        Size::Unknown => out.extend([0x01, 255, 255, 255, 255, 255, 255, 255]),
        Size::Said(size) => out.extend((size | 1 << 56).to_be_bytes()),
    }
    out.extend_from_slice(payload);
    out
}

pub fn uint(id: u32, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let from = bytes.iter().position(|&byte| byte != 0).unwrap_or(7);
    element(id, &bytes[from..])
}

pub fn document() -> Vec<u8> {
    element(EBML, &[uint(0x42F2, 4), uint(0x42F3, 8), element(0x4282, b"matroska")].concat())
}

pub fn info(scale: Option<u64>) -> Vec<u8> {
    let scale = scale.map_or(vec![], |scale| uint(0x2A_D7B1, scale));
    element(INFO, &[scale, element(0x4D80, b"test"), element(0x5741, b"test")].concat())
}

/// A track: its number, the duration of a frame in nanoseconds, and the codec's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestTrack {
    pub number: u64,
    pub default_duration: Option<u64>,
    pub private: Vec<u8>,
}

impl TestTrack {
    pub fn new(number: u64) -> Self {
        Self { number, default_duration: None, private: vec![1, 100, 0, 31] }
    }
}

pub fn tracks(of: &[TestTrack]) -> Vec<u8> {
    let entries = of.iter().map(|track| {
        let duration = track.default_duration.map_or(vec![], |duration| uint(0x23_E383, duration));
        let codec = [element(0x86, b"V_MPEG4/ISO/AVC"), element(0x63A2, &track.private)].concat();
        element(
            0xAE,
            &[uint(0xD7, track.number), uint(0x73C5, track.number), uint(0x83, 1), duration, codec].concat(),
        )
    });
    element(TRACKS, &entries.collect::<Vec<_>>().concat())
}

pub fn tags(of: &[(&str, &str)]) -> Vec<u8> {
    tags_of(&[], of)
}

/// Tags with the payload of their target.
pub fn tags_of(target: &[u8], of: &[(&str, &str)]) -> Vec<u8> {
    let simple = of.iter().map(|(name, value)| {
        element(0x67C8, &[element(0x45A3, name.as_bytes()), element(0x4487, value.as_bytes())].concat())
    });
    let simple: Vec<_> = simple.collect();
    element(TAGS, &element(0x7373, &[element(0x63C0, target), simple.concat()].concat()))
}

pub fn timecode(value: u64) -> Vec<u8> {
    uint(0xE7, value)
}

fn block_payload(track: u64, relative: i16, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut out =
        if track < 127 { vec![0x80 | track as u8] } else { (track as u16 | 0x4000).to_be_bytes().to_vec() };
    out.extend(relative.to_be_bytes());
    out.push(flags);
    out.extend_from_slice(data);
    out
}

pub fn simple_block(track: u64, relative: i16, data: &[u8]) -> Vec<u8> {
    element(SIMPLE_BLOCK, &block_payload(track, relative, 0x80, data))
}

pub fn block_group(track: u64, relative: i16, duration: Option<u64>, data: &[u8]) -> Vec<u8> {
    let duration = duration.map_or(vec![], |duration| uint(0x9B, duration));
    element(BLOCK_GROUP, &[element(0xA1, &block_payload(track, relative, 0, data)), duration].concat())
}

/// Frames of one length in one block.
pub fn laced_block(track: u64, relative: i16, count: u8, data: &[u8]) -> Vec<u8> {
    let data = [vec![count - 1], data.repeat(count.into())].concat();
    element(SIMPLE_BLOCK, &block_payload(track, relative, 0x84, &data))
}

pub fn cluster(size: Size, children: &[Vec<u8>]) -> Vec<u8> {
    sized(CLUSTER, size, &children.concat())
}

/// The data before the clusters of a live stream with these tracks.
pub fn head(of: &[TestTrack]) -> Vec<u8> {
    [document(), sized(SEGMENT, Size::Unknown, &[]), info(Some(1_000_000)), tracks(of)].concat()
}

/// A cluster with a frame every 40 ms.
pub fn simple_cluster(at_ms: u64, frames: i16, data: &[u8]) -> Vec<u8> {
    let blocks = (0..frames).map(|frame| simple_block(1, frame * 40, data));
    cluster(Size::Right, &[vec![timecode(at_ms)], blocks.collect()].concat())
}

/// A live stream of clusters of a second.
pub fn live(seconds: std::ops::Range<u64>) -> Vec<u8> {
    let clusters =
        seconds.map(|second| simple_cluster(second * 1_000, 25, format!("frame of {second}").as_bytes()));
    [vec![head(&[TestTrack::new(1)])], clusters.collect()].concat().concat()
}

/// A parsed element: its id, where its payload begins, and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'a> {
    pub id: u32,
    pub at: usize,
    pub payload: &'a [u8],
}

/// Reads the elements of a payload in the simplest way. An element of unknown size takes the rest.
pub fn read(mut bytes: &[u8]) -> Vec<Read<'_>> {
    let (mut found, mut at) = (vec![], 0);
    while !bytes.is_empty() {
        let id_len = bytes[0].leading_zeros() as usize + 1;
        let id = bytes[..id_len].iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
        let size_len = bytes[id_len].leading_zeros() as usize + 1;
        let mask = (1u64 << (7 * size_len)) - 1;
        let size =
            bytes[id_len..id_len + size_len].iter().fold(0, |size, &byte| size << 8 | u64::from(byte)) & mask;
        let head = id_len + size_len;
        let len = if size == mask { bytes.len() - head } else { size as usize };
        found.push(Read { id, at: at + head, payload: &bytes[head..head + len] });
        bytes = &bytes[head + len..];
        at += head + len;
    }
    found
}

/// Returns the only child with this id.
pub fn only<'a>(elements: &[Read<'a>], id: u32) -> &'a [u8] {
    let mut of_id = elements.iter().filter(|element| element.id == id);
    let found = of_id.next().unwrap_or_else(|| panic!("no element {id:X}"));
    assert!(of_id.next().is_none(), "two elements {id:X}");
    found.payload
}

/// Returns all tags of concatenated or nested documents, in order.
pub fn tags_in(bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = vec![];
    for element in read(bytes) {
        match element.id {
            SEGMENT | TAGS | 0x7373 => found.extend(tags_in(element.payload)),
            0x67C8 => {
                let parts = read(element.payload);
                let text = |id| String::from_utf8(only(&parts, id).to_vec()).unwrap();
                found.push((text(0x45A3), text(0x4487)));
            }
            _ => {}
        }
    }
    found
}

/// Splits concatenated documents. None of these may contain its header inside.
pub fn documents(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<_> =
        bytes.windows(4).enumerate().filter(|(_, at)| *at == EBML.to_be_bytes()).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &bytes[start..end]).collect()
}
