//! What the file `LOCK` holds: which process has the stream open, as a hint for people.

/// The most bytes of the file that are looked at.
pub(crate) const HOLDER_BYTES_MAX: usize = 512;
/// The most characters of a process's name.
const NAME_CHARS_MAX: usize = 64;

/// The process that has a stream open, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: u32,
    /// May be empty.
    pub(crate) name: String,
    /// A random number: in another container, another process may have the same id and name.
    pub(crate) mark: Option<u64>,
}

impl Holder {
    /// Returns the text of the file.
    pub(crate) fn encode(&self) -> String {
        let Self { id, name, mark } = self;
        let mark = mark.map(|mark| format!("{mark:016x}\n")).unwrap_or_default();
        format!("{}\n{mark}", format!("{id} {}", plain(name)).trim_end())
    }

    /// Returns what a file says, or `None` if that is empty, unfinished or something else.
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let (first, rest) = text.split_once('\n')?;
        let (id, name) = first.split_once(' ').unwrap_or((first, ""));
        let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let id = id.parse().ok().filter(|&id| is_number && id > 0)?;
        let mark = rest.split_once('\n').map(|(mark, _)| mark).filter(|mark| mark.len() == 16);
        let mark = mark.and_then(|mark| u64::from_str_radix(mark, 16).ok());
        Some(Self { id, name: plain(name), mark })
    }
}

/// Returns a name without characters that would garble a line of text: control characters, and those that change the direction of writing.
fn plain(name: &str) -> String {
    let is_plain = |char: char| "'\"\\".contains(char) || char.escape_debug().len() == 1;
    let chars = name.chars().take(NAME_CHARS_MAX);
    let name: String = chars.map(|char| if is_plain(char) { char } else { '?' }).collect();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(id: u32, name: &str, mark: Option<u64>) -> Holder {
        Holder { id, name: name.to_owned(), mark }
    }

    #[test]
    fn what_is_written_is_read() {
        for (known, text) in [
            (holder(4711, "clickd", Some(0xfe)), "4711 clickd\n00000000000000fe\n"),
            (holder(1, "click d'or", None), "1 click d'or\n"),
            (holder(1, "", Some(u64::MAX)), "1\nffffffffffffffff\n"),
        ] {
            assert_eq!(known.encode(), text);
            assert_eq!(Holder::decode(text.as_bytes()), Some(known));
        }
    }

    #[test]
    fn what_is_unfinished_or_foreign_names_nobody() {
        for text in [
            "",
            "\n",
            "4711 clickd",
            "4711",
            "0 clickd\n",
            "-1 clickd\n",
            "+1 clickd\n",
            "99999999999 clickd\n",
            "clickd 4711\n",
            "\0\0\0\0\n",
            " 4711 clickd\n",
        ] {
            assert_eq!(Holder::decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Holder::decode(b"4711 clickd\n00000000000000f").unwrap().mark, None, "half a mark");
        assert_eq!(Holder::decode(b"4711 clickd\nhello\n").unwrap().mark, None);
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let name = |text: &[u8]| Holder::decode(text).unwrap().name;
        assert_eq!(name(b"7 a\x1b[2Jb\tc\rd\xff\n"), "a?[2Jb?c?d\u{fffd}");
        assert_eq!(name("7 \u{202e}dkcilc\n".as_bytes()), "?dkcilc");
        assert_eq!(name(&[b"7 ", &[b'x'; 300][..], b"\n"].concat()).len(), NAME_CHARS_MAX);
        assert_eq!(holder(7, "two\nlines", None).encode(), "7 two?lines\n");
    }

    proptest! {
        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..HOLDER_BYTES_MAX)) {
            let _ = Holder::decode(&bytes);
        }

        #[test]
        fn p11_any_name_is_one_line(id in 1u32.., name in "\\PC{0,80}|.{0,80}") {
            let text = holder(id, &name, Some(7)).encode();
            prop_assert_eq!(text.lines().count(), 2);
            prop_assert!(text.len() <= HOLDER_BYTES_MAX, "{}", text.len());
            prop_assert_eq!(Holder::decode(text.as_bytes()).map(|read| read.id), Some(id));
        }
    }
}
