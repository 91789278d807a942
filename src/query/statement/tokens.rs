//! Splits a text of statements into words, within bounds.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::problem::{Problem, Result};

/// How long a text of statements may be, in bytes.
pub(in crate::query) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// How many words may be between two commas, including those around the brackets that they are in: a chain of operators becomes a tree as deep as the
/// chain is long, and trees are walked recursively.
const CHAIN_WORDS_MAX: usize = 1_000;

/// How many brackets may be open at the same time.
const NESTED_MAX: usize = 40;

/// How many of `UNION`, `EXCEPT` and `INTERSECT` a statement may have.
const SET_OPERATIONS_MAX: usize = 30;

/// The statements of a text, each without comments and without its semicolon.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<TokenWithSpan>>> {
    let start = Location { line: 1, column: 1 };
    if text.len() > STATEMENT_BYTES_MAX {
        let message = format!("the text has {} bytes, of {STATEMENT_BYTES_MAX} that are allowed", text.len());
        return Err(Problem::new(start, message).hint("start the pumps by several texts"));
    }
    let all = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    let all = all.map_err(|error| {
        let problem = Problem::new(error.location, lower_first(&error.message));
        if error.message.contains("Unterminated") { problem.hint("close the quotes") } else { problem }
    })?;
    let words = all.into_iter().filter(|word| !matches!(word.token, Token::Whitespace(_)));
    let words: Vec<_> = words.collect();
    let statements = words.split(|word| word.token == Token::SemiColon);
    let statements: Vec<Vec<_>> = statements.filter(|words| !words.is_empty()).map(<[_]>::to_vec).collect();
    for words in &statements {
        check_depth(words)?;
    }
    if statements.is_empty() {
        let hint = "write INSERT INTO target SELECT … FROM stream";
        return Err(Problem::new(start, "there is no statement").hint(hint));
    }
    Ok(statements)
}

pub(super) fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// What is open at a place of the text, and how many words it has had since its last comma.
struct Open {
    is_case: bool,
    words: usize,
}

fn check_depth(words: &[TokenWithSpan]) -> Result<()> {
    let open_one = |is_case| Open { is_case, words: 0 };
    let mut outer = vec![];
    let mut inner = open_one(false);
    let mut set_operations = 0;
    for word in words {
        match &word.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                outer.push(std::mem::replace(&mut inner, open_one(false)));
            }
            Token::RParen | Token::RBracket | Token::RBrace => inner = outer.pop().unwrap_or(inner),
            Token::Comma => inner.words = 0,
            Token::Word(word) => match word.keyword {
                Keyword::CASE => outer.push(std::mem::replace(&mut inner, open_one(true))),
                Keyword::END if inner.is_case => inner = outer.pop().unwrap_or(inner),
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::SELECT | Keyword::FROM => {
                    inner.words = 0
                }
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => set_operations += 1,
                _ => {}
            },
            _ => {}
        }
        inner.words += 1;
        if outer.len() > NESTED_MAX {
            let message = format!("more than {NESTED_MAX} brackets within each other");
            return Err(Problem::new(word.span, message)
                .hint("give the parts names: WITH part AS (SELECT …) SELECT …"));
        }
        if inner.words + outer.iter().map(|open| open.words).sum::<usize>() > CHAIN_WORDS_MAX {
            let message = format!("more than {CHAIN_WORDS_MAX} words in one expression");
            return Err(Problem::new(word.span, message).hint("compare with many values by x IN (1, 2, …)"));
        }
        if set_operations > SET_OPERATIONS_MAX {
            let message = format!("more than {SET_OPERATIONS_MAX} of UNION, EXCEPT and INTERSECT");
            return Err(Problem::new(word.span, message).hint("let several pumps insert into one stream"));
        }
    }
    Ok(())
}

/// The statement with single spaces and unquoted words in lower case.
pub(super) fn normal_text(words: &[TokenWithSpan]) -> String {
    let normal = |word: &TokenWithSpan| match &word.token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        Token::Whitespace(Whitespace::Space) => String::new(),
        token => token.to_string(),
    };
    words.iter().map(normal).collect::<Vec<_>>().join(" ")
}

/// Whether a word is this one, without quotes, in upper or lower case.
pub(super) fn is(word: Option<&TokenWithSpan>, wanted: &str) -> bool {
    let Some(TokenWithSpan { token: Token::Word(word), .. }) = word else { return false };
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted)
}

pub(super) fn is_token(word: Option<&TokenWithSpan>, wanted: &Token) -> bool {
    word.is_some_and(|word| word.token == *wanted)
}

/// The place of the bracket that closes the one at `open`.
pub(super) fn closing(words: &[TokenWithSpan], open: usize) -> Result<usize> {
    let mut depth = 0_usize;
    for (place, word) in words.iter().enumerate().skip(open) {
        match word.token {
            Token::LParen => depth += 1,
            Token::RParen if depth <= 1 => return Ok(place),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    Err(Problem::new(words[open].span, "this bracket is not closed").hint("write the missing )"))
}

/// The pieces between commas that are not in brackets.
pub(super) fn pieces(words: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let mut depth = 0_usize;
    let mut pieces = vec![];
    let mut start = 0;
    for (place, word) in words.iter().enumerate() {
        match word.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => {
                pieces.push(&words[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    pieces.push(&words[start..]);
    pieces
}
