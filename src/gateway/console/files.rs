//! The files of the page.

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

impl File {
    pub(super) fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            Some((_, "LICENSE")) => "text/plain; charset=utf-8",
            _ => "text/javascript; charset=utf-8",
        }
    }
}

macro_rules! files {
    ($($name:literal)+) => {
        pub(super) const FILES: &[File] = &[
            $(File { name: $name, text: include_str!(concat!("page/", $name)) }),+
        ];
    };
}

files! {
    "index.html"
    "style.css"
    "icon.svg"
    "main.js"
    "sign.js"
    "api.js"
    "dom.js"
    "format.js"
    "activity.js"
    "chart.js"
    "keyspace.js"
    "heatmap.js"
    "streams.js"
    "stream.js"
    "changes.js"
    "ranges.js"
    "dialog.js"
    "readers.js"
    "records.js"
    "record.js"
    "shards.js"
    "reading.js"
    "json.js"
    "bytes.js"
    "aggregate.js"
    "md5.js"
    "put.js"
    "settings.js"
    "policy.js"
    "query.js"
    "statements.js"
    "result.js"
    "series.js"
    "tables.js"
    "signin.js"
    "video.js"
}

/// Third-party code that the page loads: hls.js 1.7.4, without support for subtitles and encrypted media, with its license (Apache 2.0).
#[cfg(feature = "video")]
pub(super) const LIBRARIES: &[File] = &[
    File { name: "hls.light.min.mjs", text: include_str!("page/hls.light.min.mjs") },
    File { name: "hls.LICENSE", text: include_str!("page/hls.LICENSE") },
];
#[cfg(not(feature = "video"))]
pub(super) const LIBRARIES: &[File] = &[];
