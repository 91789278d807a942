//! Matching of texts with wildcards and policy variables.

/// Returns the value that a policy variable stands for, if there is exactly one.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The most pieces that a pattern may have after its variables were replaced.
const PIECES_MAX: usize = 32 << 10;

/// The special syntax of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    /// `*` is any text and `?` any character.
    pub(super) has_wildcards: bool,
    /// `${aws:username}` is a value of the request, and `${*}`, `${?}` and `${$}` are the characters themselves.
    pub(super) has_variables: bool,
    pub(super) ignores_case: bool,
}

#[derive(Debug, Clone)]
enum Piece {
    Char(char),
    /// Any text.
    Any,
    /// Any character.
    One,
    Variable(Box<Variable>),
}

#[derive(Debug, Clone)]
struct Variable {
    key: String,
    default: Option<String>,
}

/// A text that may have wildcards and variables.
#[derive(Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    has_variables: bool,
    ignores_case: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let lowered = syntax.ignores_case.then(|| text.to_lowercase());
        let mut rest = lowered.as_deref().unwrap_or(text);
        let (mut pieces, mut has_variables) = (vec![], false);
        while let Some(c) = rest.chars().next() {
            if syntax.has_variables && rest.starts_with("${") {
                let (piece, behind) = split_variable(&rest[2..])
                    .ok_or_else(|| format!("{text:?} has a policy variable that is not well formed"))?;
                has_variables |= matches!(piece, Piece::Variable(_));
                pieces.push(piece);
                rest = behind;
                continue;
            }
            pieces.push(match c {
                '*' if syntax.has_wildcards => Piece::Any,
                '?' if syntax.has_wildcards => Piece::One,
                c => Piece::Char(c),
            });
            rest = &rest[c.len_utf8()..];
        }
        Ok(Self { pieces, has_variables, ignores_case: syntax.ignores_case })
    }

    /// Returns the parts of an ARN: its first five are separated by colons, and the sixth may have more of them.
    pub(super) fn into_arn(mut self) -> Vec<Self> {
        let mut parts = vec![];
        while parts.len() < 5 {
            let Some(colon) = self.pieces.iter().position(|piece| matches!(piece, Piece::Char(':'))) else {
                break;
            };
            let behind = self.pieces.split_off(colon + 1);
            self.pieces.pop();
            parts.push(Self { pieces: std::mem::replace(&mut self.pieces, behind), ..self });
        }
        parts.push(self);
        parts
    }

    /// Returns whether the pattern is a lone `*`.
    pub(super) fn is_any(&self) -> bool {
        matches!(self.pieces[..], [Piece::Any])
    }

    /// Returns whether a text matches. A pattern with a variable that has no value matches nothing.
    pub(super) fn is_match(&self, text: &str, lookup: Lookup<'_>) -> bool {
        let lowered = self.ignores_case.then(|| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        if !self.has_variables {
            return is_match(&self.pieces, text);
        }
        self.resolve(lookup).is_some_and(|pieces| is_match(&pieces, text))
    }

    /// Replaces the variables by their values, which have no wildcards: they come from the request.
    fn resolve(&self, lookup: Lookup<'_>) -> Option<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Variable(variable) => {
                    let value = lookup(&variable.key).or_else(|| variable.default.clone())?;
                    let value = if self.ignores_case { value.to_lowercase() } else { value };
                    pieces.extend(value.chars().map(Piece::Char));
                }
                piece => pieces.push(piece.clone()),
            }
            if pieces.len() > PIECES_MAX {
                return None;
            }
        }
        Some(pieces)
    }
}

/// Parses a variable after its `${`, and returns the rest.
fn split_variable(text: &str) -> Option<(Piece, &str)> {
    let end = text.find(['}', ',', '\''])?;
    let (key, rest) = (text[..end].trim(), &text[end..]);
    if let Some(behind) = rest.strip_prefix('}') {
        let piece = match key {
            "*" => Piece::Char('*'),
            "?" => Piece::Char('?'),
            "$" => Piece::Char('$'),
            _ if is_key(key) => Piece::Variable(Box::new(Variable { key: key.to_owned(), default: None })),
            _ => return None,
        };
        return Some((piece, behind));
    }
    // `, 'a default'`, in which two quotes stand for one.
    let mut rest = rest.strip_prefix(',')?.trim_start().strip_prefix('\'')?;
    let mut default = String::new();
    loop {
        let (before, behind) = rest.split_once('\'')?;
        default.push_str(before);
        rest = behind;
        match rest.strip_prefix('\'') {
            Some(behind) => {
                default.push('\'');
                rest = behind;
            }
            None => break,
        }
    }
    let behind = rest.trim_start().strip_prefix('}')?;
    let variable = Variable { key: is_key(key).then(|| key.to_owned())?, default: Some(default) };
    Some((Piece::Variable(Box::new(variable)), behind))
}

fn is_key(key: &str) -> bool {
    key.contains(':') && !key.contains(['{', '$', '*', '?'])
}

/// Matches by backtracking only to the last `*`: earlier matches can stay, because that `*` takes any text. So the time is at most the product of
/// both lengths.
fn is_match(pieces: &[Piece], text: &str) -> bool {
    let (mut piece, mut at) = (0, 0);
    // The piece after the last `*`, and where in the text that piece was last tried.
    let mut last: Option<(usize, usize)> = None;
    while let Some(c) = text[at..].chars().next() {
        match pieces.get(piece) {
            Some(Piece::Any) => {
                piece += 1;
                last = Some((piece, at));
                continue;
            }
            Some(Piece::One) => {}
            Some(Piece::Char(wanted)) if *wanted == c => {}
            _ => {
                let Some((behind, tried)) = last else { return false };
                let Some(skipped) = text[tried..].chars().next() else { return false };
                (piece, at) = (behind, tried + skipped.len_utf8());
                last = Some((piece, at));
                continue;
            }
        }
        piece += 1;
        at += c.len_utf8();
    }
    pieces[piece..].iter().all(|piece| matches!(piece, Piece::Any))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const ALL: Syntax = Syntax { has_wildcards: true, has_variables: true, ignores_case: false };

    fn user(key: &str) -> Option<String> {
        (key == "aws:username").then(|| "ali*ce".to_owned())
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, ALL).unwrap().is_match(text, &user)
    }

    #[test]
    fn wildcards_match() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a:b/c", true),
            ("?", "é", true),
            ("?", "", false),
            ("a*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            ("*ab", "aab", true),
            ("*a?c*", "xxabcabxac", true),
            ("a**b??", "abbbé", true),
            ("*abab*", "aabaabab", true),
            ("A", "a", false),
            ("a+b.", "a+b.", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn variables_match_their_value_and_nothing_else() {
        for (pattern, text, expected) in [
            ("${aws:username}", "ali*ce", true),
            ("${aws:username}", "alixce", false),
            ("x/${aws:username}/*", "x/ali*ce/y", true),
            ("${ aws:username }", "ali*ce", true),
            ("${aws:userid}", "", false),
            ("${aws:userid}", "${aws:userid}", false),
            ("${aws:userid, 'no one'}", "no one", true),
            ("${aws:userid,'it''s }'}!", "it's }!", true),
            ("${aws:username, 'no one'}", "ali*ce", true),
            ("${aws:userid, '*'}", "x", false),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "x", false),
            ("$", "$", true),
            ("{aws:username}", "{aws:username}", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        for wrong in [
            "${",
            "${}",
            "${aws:username",
            "${username}",
            "${aws:userid, 'x}",
            "${aws:userid 'x'}",
            "${a:b,x}",
        ] {
            assert!(Pattern::parse(wrong, ALL).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_syntax_decides_what_is_special() {
        let plain = Syntax { has_wildcards: false, has_variables: false, ignores_case: false };
        let is_match = |syntax, pattern, text| Pattern::parse(pattern, syntax).unwrap().is_match(text, &user);
        assert!(is_match(plain, "*${aws:username}?", "*${aws:username}?"));
        assert!(!is_match(plain, "*", "x"));
        let any_case = Syntax { ignores_case: true, ..ALL };
        assert!(is_match(any_case, "KINESIS:Put*ÉX", "kinesis:putRecordéx"));
        assert!(is_match(any_case, "${AWS:UserName}", "ALI*CE"));
    }

    #[test]
    fn the_parts_of_an_arn_are_apart() {
        let parts = |text| Pattern::parse(text, ALL).unwrap().into_arn();
        let arn = parts("arn:aws:kinesis:*:1:stream/a:b");
        assert_eq!(arn.len(), 6);
        assert!(arn[3].is_any());
        assert!(arn[5].is_match("stream/a:b", &user));
        assert_eq!((parts("*").len(), parts("").len(), parts("a:").len()), (1, 1, 2));
    }

    #[test]
    fn a_hostile_pattern_takes_little_time() {
        let pattern = Pattern::parse(&format!("{}b", "*a".repeat(5_000)), ALL).unwrap();
        let begin = Instant::now();
        assert!(!pattern.is_match(&"a".repeat(2_048), &user));
        let long = Pattern::parse(&format!("*{}b", "a".repeat(10_000)), ALL).unwrap();
        assert!(!long.is_match(&"a".repeat(2_048), &user));
        // Recursive matching would take longer than the age of the universe.
        assert!(begin.elapsed().as_secs() < 20);
    }

    #[test]
    fn what_variables_grow_to_is_bounded() {
        let pattern = Pattern::parse(&"${aws:username}".repeat(3), ALL).unwrap();
        assert!(!pattern.is_match("x", &|_| Some("x".repeat(PIECES_MAX))));
    }

    /// What matches, by definition.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => model(rest, text),
            (Some(('*', rest)), Some((_, behind))) => model(rest, text) || model(pattern, behind),
            (Some((wanted, rest)), Some((c, behind))) => {
                (*wanted == '?' || wanted == c) && model(rest, behind)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*?]{0,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), model(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn no_pattern_makes_the_parser_panic(pattern in "\\PC{0,30}", similar in "[$a:{}', é*?]{0,20}", text in "\\PC{0,20}") {
            for pattern in [pattern, similar] {
                if let Ok(pattern) = Pattern::parse(&pattern, ALL) {
                    pattern.is_match(&text, &user);
                    let _ = pattern.into_arn().iter().any(|part| part.is_match(&text, &user));
                }
            }
        }
    }
}
