//! A source file as the tidy rules see it: tokens with their lines, and which lines are test code.

use std::ops::Range;

/// One token: a word, a lifetime, `::`, or a single sign. Comments, strings and characters leave none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

/// A file of `src/`.
#[derive(Debug)]
pub(crate) struct Source {
    /// Within `src/`, such as `log/sys/map.rs`.
    pub(crate) path: String,
    pub(crate) lines: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    /// The tokens of modules under `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
}

/// A path that begins with `crate` or `super`, from the root of the crate on: `["log", "types", "error"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CratePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let tokens = tokenize(text);
        let tests = test_modules(&tokens);
        Self { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect(), tokens, tests }
    }

    /// The directory that the file is in, or its own name where it stands at the top: `consumer`, `log/sys`, `prelude`.
    pub(crate) fn room(&self) -> String {
        let stem = |name: &str| name.strip_suffix(".rs").unwrap_or(name).to_owned();
        match self.path.split('/').collect::<Vec<_>>()[..] {
            ["log", second, ..] => format!("log/{}", stem(second)),
            [first, ..] => stem(first),
            [] => String::new(),
        }
    }

    /// The tokens outside the test modules.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &Token)> {
        let is_test = |at: usize| self.tests.iter().any(|range| range.contains(&at));
        self.tokens.iter().enumerate().filter(move |&(at, _)| !is_test(at))
    }

    /// Whether the tokens from a place on read so, with a blank between each two.
    pub(crate) fn reads(&self, at: usize, words: &str) -> bool {
        reads(&self.tokens, at, words)
    }

    /// The lines outside the test modules, but for those that document an item: an example makes no file too long.
    pub(crate) fn code_line_count(&self) -> usize {
        let tests: Vec<_> = self
            .tests
            .iter()
            .map(|range| self.tokens[range.start].line..=self.tokens[range.end - 1].line)
            .collect();
        let lines = self.lines.iter().zip(1..).filter(|(text, line)| {
            !text.trim_start().starts_with("///") && !tests.iter().any(|test| test.contains(line))
        });
        lines.count()
    }

    /// The names of modules under `#[cfg(test)]` that are files of their own.
    pub(crate) fn test_files(&self) -> Vec<String> {
        let declared = self.tests.iter().filter_map(|range| {
            let tokens = &self.tokens[range.clone()];
            let at = tokens.iter().position(|token| token.text == "mod")?;
            (tokens.last()?.text == ";").then(|| tokens[at + 1].text.clone())
        });
        let dir = self.module_path().join("/");
        declared
            .flat_map(|name| {
                let stem = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                [format!("{stem}.rs"), format!("{stem}/")]
            })
            .collect()
    }

    /// The module that the file is: `["log", "sys", "map"]`.
    fn module_path(&self) -> Vec<String> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let mut path: Vec<_> = stem.split('/').map(str::to_owned).collect();
        if path.last().is_some_and(|last| last == "mod" || last == "lib") {
            path.pop();
        }
        path
    }

    /// All paths outside the test modules that begin with `crate` or `super`, groups in braces taken apart.
    pub(crate) fn crate_paths(&self) -> Vec<CratePath> {
        let mut found = vec![];
        let mut modules = vec![];
        let mut depth = 0;
        let code: Vec<usize> = self.code().map(|(at, _)| at).collect();
        for &at in &code {
            match self.tokens[at].text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    modules.retain(|&(_, at_depth)| at_depth <= depth);
                }
                "mod" if self.tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                    modules.push((self.tokens[at + 1].text.clone(), depth + 1));
                }
                "crate" if self.reads(at + 1, "::") => self.collect(at + 2, vec![], &mut found),
                // Only the first of `super::super`: the rest is followed from there.
                "super" if self.reads(at + 1, "::") && !(at > 0 && self.reads(at - 1, "::")) => {
                    let mut base = self.module_path();
                    base.extend(modules.iter().map(|(name, _): &(String, i32)| name.clone()));
                    base.pop();
                    self.collect(at + 2, base, &mut found);
                }
                _ => {}
            }
        }
        found
    }

    /// Follows a path, or the paths of a group, from the token behind a `::`.
    fn collect(&self, mut at: usize, mut path: Vec<String>, found: &mut Vec<CratePath>) {
        loop {
            let Some(token) = self.tokens.get(at) else { return };
            match token.text.as_str() {
                "super" => drop(path.pop()),
                "{" => {
                    let (mut depth, mut is_start) = (0, true);
                    while let Some(token) = self.tokens.get(at) {
                        match token.text.as_str() {
                            "{" => depth += 1,
                            "}" => depth -= 1,
                            _ => {}
                        }
                        if depth == 0 {
                            return;
                        }
                        let is_item = depth == 1 && is_start && !["{", "}", ","].contains(&&*token.text);
                        if is_item {
                            self.collect(at, path.clone(), found);
                        }
                        is_start = depth == 1 && ["{", ","].contains(&&*token.text);
                        at += 1;
                    }
                    return;
                }
                text => path.push(text.to_owned()),
            }
            if !self.reads(at + 1, "::") {
                found.push(CratePath { segments: path, line: token.line });
                return;
            }
            at += 2;
        }
    }
}

fn reads(tokens: &[Token], at: usize, words: &str) -> bool {
    words.split(' ').enumerate().all(|(more, word)| tokens.get(at + more).is_some_and(|t| t.text == word))
}

/// The tokens of each item under `#[cfg(test)]`, from the attribute to the closing brace or semicolon.
fn test_modules(tokens: &[Token]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = vec![];
    for at in 0..tokens.len() {
        let is_test = reads(tokens, at, "# [ cfg ( test") || reads(tokens, at, "# [ cfg ( all ( test");
        if !is_test || found.last().is_some_and(|last| last.contains(&at)) {
            continue;
        }
        let mut depth = 0;
        let end = tokens[at..].iter().position(|token| {
            depth += match token.text.as_str() {
                "{" => 1,
                "}" => -1,
                _ => 0,
            };
            depth == 0 && ["}", ";"].contains(&&*token.text)
        });
        found.push(at..end.map_or(tokens.len(), |more| at + more + 1));
    }
    found
}

/// Takes Rust apart. It need not refuse what the compiler refuses.
fn tokenize(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut line, mut at) = (vec![], 1, 0);
    while at < chars.len() {
        let rest = &chars[at..];
        let len = match rest {
            ['/', '/', ..] => rest.iter().take_while(|&&c| c != '\n').count(),
            ['/', '*', ..] => block_comment_len(rest),
            ['"', ..] => string_len(rest),
            ['\'', ..] => {
                let len = char_len(rest);
                if rest[len - 1] != '\'' {
                    tokens.push(Token { text: rest[..len].iter().collect(), line });
                }
                len
            }
            [first, ..] if is_word(*first) => {
                let len = rest.iter().take_while(|&&c| is_word(c)).count();
                let word: String = rest[..len].iter().collect();
                let hashes = rest[len..].iter().take_while(|&&c| c == '#').count();
                let is_raw = ["r", "br", "cr"].contains(&&*word);
                if is_raw && rest.get(len + hashes) == Some(&'"') {
                    len + raw_string_len(&rest[len..], hashes)
                } else {
                    tokens.push(Token { text: word, line });
                    len
                }
            }
            [':', ':', ..] => {
                tokens.push(Token { text: "::".into(), line });
                2
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(Token { text: first.to_string(), line });
                }
                1
            }
            [] => break,
        };
        line += rest[..len].iter().filter(|&&c| c == '\n').count();
        at += len;
    }
    tokens
}

fn block_comment_len(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string_len(rest: &[char], hashes: usize) -> usize {
    let is_end = |at: usize| {
        rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    let end = (hashes + 1..rest.len()).find(|&at| is_end(at));
    end.map_or(rest.len(), |at| at + 1 + hashes)
}

/// A character, or a lifetime.
fn char_len(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => 3 + rest[3.min(rest.len())..].iter().take_while(|&&c| c != '\'').count() + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 1 + rest[1..].iter().take_while(|&&c| c.is_alphanumeric() || c == '_').count(),
    }
    .min(rest.len())
}
