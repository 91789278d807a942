//! Lines that web servers log, in the format of Apache's `mod_log_config`.

use super::columns::{Column, numbered};

/// The formats that have a name. In Kinesis, brackets stand where Apache has braces; both are taken.
const NAMED: [(&str, &str); 6] = [
    ("COMMON", r#"%h %l %u %t "%r" %>s %b"#),
    ("COMMON WITH VHOST", r#"%v %h %l %u %t "%r" %>s %b"#),
    ("NCSA EXTENDED", r#"%h %l %u %t "%r" %>s %b "%[Referer]i" "%[User-agent]i""#),
    ("COMBINED", r#"%h %l %u %t "%r" %>s %b "%[Referer]i" "%[User-agent]i""#),
    ("REFERER", "%[Referer]i ---> %U"),
    ("AGENT", "%[User-agent]i"),
];

/// The letters of the directives that are known.
const LETTERS: &str = "aABbCDefhHiIklLmnoOpPqrRsStTuUvVX";

/// Returns a regular expression with a group for each directive of a format, and their columns. The error is a sentence for the caller.
pub(super) fn pattern(format: &str) -> Result<(String, Vec<Column>), String> {
    let name = format.trim().to_uppercase();
    if name == "IIS" {
        return Err(
            "the format IIS is not supported: use variable_column_log_parse(line, columns, ' ')".into()
        );
    }
    let format = NAMED.iter().find(|(known, _)| *known == name).map_or(format, |(_, format)| format);
    // Amazon's examples escape quotes.
    let format = format.replace("\\\"", "\"");
    let mut pattern = String::from("^");
    let (mut rest, mut count) = (&*format, 0);
    while let Some(next) = rest.chars().next() {
        let Some(directive) = rest.strip_prefix('%') else {
            pattern.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
            rest = &rest[next.len_utf8()..];
            continue;
        };
        if let Some(behind) = directive.strip_prefix('%') {
            pattern.push('%');
            rest = behind;
            continue;
        }
        let conditions = |character: char| "!<>,".contains(character) || character.is_ascii_digit();
        let directive = directive.trim_start_matches(conditions);
        let behind = match directive.strip_prefix(['[', '{']) {
            Some(behind) => match behind.split_once([']', '}']) {
                Some((_, behind)) => behind,
                None => return Err(format!("the format {format:?} has a bracket without an end")),
            },
            None => directive,
        };
        let letter = behind.chars().next().filter(|letter| LETTERS.contains(*letter));
        let letter =
            letter.ok_or_else(|| format!("the format {format:?} has an unknown directive: %{directive}"))?;
        rest = &behind[1..];
        let group = match letter {
            // Quoted text may contain escaped quotes.
            _ if pattern.ends_with('"') => r#"((?:[^"\\]|\\.)*)"#,
            't' if pattern.ends_with(r"\[") => r"([^\]]*)",
            't' if behind == directive => r"(\[[^\]]*\])",
            // An empty query is an empty text.
            'q' => r"(\S*)",
            _ if rest.is_empty() => r"(.*?)",
            _ => r"(\S+)",
        };
        pattern.push_str(group);
        count += 1;
    }
    pattern.push_str(r"\s*$");
    match count {
        0 => Err(format!(
            "the format {format:?} has no directive: name one such as COMMON or COMBINED, or write one such as %h %t"
        )),
        _ => Ok((pattern, numbered(count))),
    }
}
