//! Cutting texts where a character ends.

/// Truncates a text to at most this many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut_in_two() {
        assert_eq!(cut("straße", 9), "straße");
        assert_eq!(cut("straße", 5), "stra");
        assert_eq!(cut("straße", 6), "straß");
        assert_eq!(cut("ß", 1), "");
    }
}
