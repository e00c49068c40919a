//! The text of a view, taken apart: `CREATE MATERIALIZED VIEW name WITH (…) AS query`.

use std::fmt::Write as _;

use datafusion::sql::sqlparser::ast::{CreateTableOptions, CreateView, Ident, ObjectNamePart, Query, SqlOption, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use xxhash_rust::xxh3::Xxh3;

use super::error::Problem;
use super::{checks, dashboard};

/// The longest view text, in bytes. With it everything that grows with the text is bounded.
const MAX_BYTES: usize = 64 << 10;
/// How deeply parentheses, brackets and CASE may be nested. The parser tries some of them in two ways, level by level, so that
/// its time doubles with each.
const MAX_NESTING: usize = 16;
/// How deeply the parser may recurse for other reasons, such as a row of signs.
const MAX_RECURSION: usize = 48;
/// The longest name of a view: with `__v` and a version it must be a table name, and Cassandra's have 48 characters.
const MAX_NAME: usize = 36;

/// A statement in its parts.
pub(super) struct Statement {
    pub name: String,
    pub options: Vec<SqlOption>,
    pub query: Box<Query>,
    pub digest: String,
    pub words: Words,
}

/// The words of the text and where they are, to give errors a place.
pub(super) struct Words {
    words: Vec<(String, Location)>,
    /// Where the query begins.
    pub query: Location,
}

impl Words {
    /// The words of an expression that stands alone.
    pub fn of(expression: &str) -> Words {
        let tokens = Tokenizer::new(&GenericDialect {}, expression).tokenize_with_location().unwrap_or_default();
        Words { words: words(&tokens), query: Location { line: 1, column: 1 } }
    }

    /// Where a word first stands within the query, or else where the query begins.
    pub fn find(&self, word: &str) -> Location {
        self.nth(word, 0)
    }

    /// Where a word stands for the `n`th time (from 0) within the query, or else where the query begins.
    pub fn nth(&self, word: &str, n: usize) -> Location {
        let in_query = |(text, at): &&(String, Location)| {
            text.eq_ignore_ascii_case(word) && (at.line, at.column) >= (self.query.line, self.query.column)
        };
        self.words.iter().filter(in_query).nth(n).map_or(self.query, |(_, at)| *at)
    }

    /// Where a column name last stands, or else where the query begins.
    pub fn last(&self, word: &str) -> Location {
        self.words.iter().rev().find(|(text, _)| text.eq_ignore_ascii_case(word)).map_or(self.query, |(_, at)| *at)
    }
}

const SHAPE: &str = "a view is one statement: CREATE MATERIALIZED VIEW name WITH (partition_key = '…', …) AS SELECT …";

/// Parses the text of a view.
pub(super) fn parse(sql: &str) -> Result<Statement, Problem> {
    let start = Location { line: 1, column: 1 };
    if sql.len() > MAX_BYTES {
        return Err(Problem::new(start, format!("the text has {} bytes, a view may have {MAX_BYTES}", sql.len())));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| Problem::new(error.location, format!("syntax error: {}", error.message)))?;
    let written: Vec<TokenWithSpan> = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).cloned().collect();
    let first = written.first().map_or(start, |token| token.span.start);
    let last = written.last().map_or(start, |token| token.span.end);
    check_nesting(&written)?;

    let statements = Parser::new(&dialect)
        .with_recursion_limit(MAX_RECURSION)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| foreign(&written).unwrap_or_else(|| syntax(error, first, last)))?;
    let mut statements = statements.into_iter();
    let create = match statements.next() {
        Some(SqlStatement::CreateView(create)) if create.materialized => create,
        Some(SqlStatement::CreateView(_)) => {
            return Err(Problem::new(first, "only materialized views can be kept").help("write CREATE MATERIALIZED VIEW"));
        }
        _ => return Err(Problem::new(first, "this is not a view").help(SHAPE)),
    };
    if statements.next().is_some() {
        return Err(Problem::new(second_statement(&written).unwrap_or(first), "more than one statement")
            .help("put each view into a file of its own"));
    }
    plain(&create, first)?;
    let query_start = written
        .iter()
        .skip_while(|token| !matches!(&token.token, Token::Word(word) if word.keyword == Keyword::AS))
        .nth(1)
        .map_or(first, |token| token.span.start);
    let name = view_name(&create, first)?;
    let options = match create.options {
        CreateTableOptions::With(options) => options,
        CreateTableOptions::None => Vec::new(),
        _ => return Err(Problem::new(first, "the options of a view stand in WITH (…)").help(SHAPE)),
    };
    let words = Words { words: words(&written), query: query_start };
    Ok(Statement { name, options, query: create.query, digest: digest(&written), words })
}

fn words(tokens: &[TokenWithSpan]) -> Vec<(String, Location)> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => Some((word.value.clone(), token.span.start)),
        _ => None,
    };
    tokens.iter().filter_map(word).collect()
}

/// Refuses the clauses of other databases, which would have no effect here.
fn plain(create: &CreateView, at: Location) -> Result<(), Problem> {
    let clause = if create.or_replace || create.or_alter {
        "OR REPLACE"
    } else if create.if_not_exists {
        "IF NOT EXISTS"
    } else if create.temporary {
        "TEMPORARY"
    } else if create.secure {
        "SECURE"
    } else if !create.columns.is_empty() {
        "a list of columns"
    } else if !create.cluster_by.is_empty() {
        "CLUSTER BY"
    } else if create.to.is_some() {
        "TO"
    } else if create.comment.is_some() {
        "COMMENT"
    } else if create.with_no_schema_binding || create.copy_grants || create.params.is_some() {
        "this clause of CREATE VIEW"
    } else {
        return Ok(());
    };
    Err(Problem::new(at, format!("{clause} has no meaning here")).help(SHAPE))
}

fn view_name(create: &CreateView, at: Location) -> Result<String, Problem> {
    let [ObjectNamePart::Identifier(ident)] = create.name.0.as_slice() else {
        return Err(Problem::new(at, format!("a view's name has one part, {} has more", create.name)));
    };
    let name = normalized(ident);
    let mut letters = name.chars();
    let begins_well = letters.next().is_some_and(|letter| letter.is_ascii_lowercase());
    let goes_on_well = letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if !begins_well || !goes_on_well || name.contains("__") || name.len() > MAX_NAME {
        return Err(Problem::new(ident.span.start, format!("{name:?} cannot be the name of a view")).help(format!(
            "use at most {MAX_NAME} small letters, digits and single underscores, a letter first: it names tables and paths"
        )));
    }
    Ok(name)
}

/// An identifier as SQL reads it: small letters unless quoted.
pub(super) fn normalized(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn second_statement(tokens: &[TokenWithSpan]) -> Option<Location> {
    let after = tokens.iter().skip_while(|token| token.token != Token::SemiColon);
    after.clone().find(|token| token.token != Token::SemiColon).map(|token| token.span.start)
}

fn check_nesting(tokens: &[TokenWithSpan]) -> Result<(), Problem> {
    let mut depth = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::CASE => depth += 1,
            Token::Word(word) if word.keyword == Keyword::END => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(too_deep(token.span.start));
        }
    }
    Ok(())
}

fn too_deep(at: Location) -> Problem {
    Problem::new(at, format!("nested more than {MAX_NESTING} levels deep")).help("take it apart with WITH name AS (SELECT …)")
}

/// The clauses of other engines for streams, where a text does not parse.
fn foreign(tokens: &[TokenWithSpan]) -> Option<Problem> {
    const WINDOWS: &str =
        "windows are functions: GROUP BY tumble(time, INTERVAL '5 minutes'), or by unnest(hop(time, slide, size)) in a subquery";
    let text = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => word.value.to_uppercase(),
        other => other.to_string(),
    };
    tokens.windows(3).find_map(|three| {
        let [first, second, third] = three else { return None };
        let (clause, help) = match (text(first).as_str(), text(second).as_str(), text(third).as_str()) {
            ("WINDOW", size @ ("TUMBLING" | "HOPPING" | "SESSION"), _) => (format!("WINDOW {size}"), WINDOWS),
            ("EMIT", when @ ("CHANGES" | "FINAL"), _) => (format!("EMIT {when}"), "leave it out: rows are written as they change"),
            ("TABLE", "(", size @ ("TUMBLE" | "HOP" | "CUMULATE" | "SESSION")) => (format!("TABLE({size}(…))"), WINDOWS),
            _ => return None,
        };
        Some(Problem::new(first.span.start, format!("{clause} has no meaning here")).help(help))
    })
}

/// The parser writes the place into its message: takes it out again.
fn syntax(error: ParserError, first: Location, last: Location) -> Problem {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => return too_deep(first),
    };
    let placed = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message.to_owned(), Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }))
    });
    let (message, at) = placed.unwrap_or_else(|| (text.clone(), if text.ends_with("found: EOF") { last } else { first }));
    let message = message.trim_start_matches("Expected: ");
    match message.split_once(", found: ") {
        Some((expected, "EOF")) => Problem::new(at, format!("syntax error: expected {expected}, found the end of the text")),
        Some((expected, found)) => Problem::new(at, format!("syntax error: expected {expected}, found {found}")),
        None => Problem::new(at, format!("syntax error: {message}")),
    }
}

/// The xxh3-128 of the tokens in hexadecimal: white space, comments, the case of keywords, how the view is drawn and what its rows are
/// held to do not count: none of them makes a row.
fn digest(tokens: &[TokenWithSpan]) -> String {
    let mut hash = Xxh3::new();
    let end = tokens.iter().rposition(|token| !matches!(token.token, Token::SemiColon | Token::EOF)).map_or(0, |last| last + 1);
    let mut text = String::new();
    for token in of_rows(tokens.get(..end).unwrap_or_default()) {
        text.clear();
        let _infallible = match &token.token {
            Token::Word(word) if word.keyword != Keyword::NoKeyword => write!(text, "{}", word.value.to_uppercase()),
            other => write!(text, "{other}"),
        };
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    format!("{:032x}", hash.digest128())
}

/// The tokens without the options that make no row, each with one of the commas beside it.
fn of_rows(tokens: &[TokenWithSpan]) -> Vec<&TokenWithSpan> {
    let is_word = |token: &TokenWithSpan, keyword| matches!(&token.token, Token::Word(word) if word.keyword == keyword);
    let begin = tokens
        .windows(2)
        .position(|pair| matches!(pair, [with, paren] if is_word(with, Keyword::WITH) && paren.token == Token::LParen))
        // Options stand before the query.
        .filter(|with| !tokens.iter().take(*with).any(|token| is_word(token, Keyword::AS)));
    let Some((head, rest)) = begin.and_then(|with| tokens.split_at_checked(with + 2)) else { return tokens.iter().collect() };
    let mut depth = 0_usize;
    let close = rest.iter().position(|token| match token.token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen if depth == 0 => true,
        Token::RParen => {
            depth -= 1;
            false
        }
        _ => false,
    });
    let Some((options, tail)) = close.and_then(|close| rest.split_at_checked(close)) else { return tokens.iter().collect() };
    let makes_no_row = |name: &str| name.starts_with(dashboard::PREFIX) || checks::is_one(name);
    let is_other = |option: &&[TokenWithSpan]| {
        option.first().is_some_and(|token| matches!(&token.token, Token::Word(word) if makes_no_row(&word.value.to_lowercase())))
    };
    let all: Vec<&[TokenWithSpan]> = options.split(|token| token.token == Token::Comma).collect();
    if !all.iter().any(&is_other) {
        return tokens.iter().collect();
    }
    let comma = options.iter().find(|token| token.token == Token::Comma);
    let mut kept: Vec<&TokenWithSpan> = head.iter().collect();
    for (index, option) in all.into_iter().filter(|option| !is_other(option)).enumerate() {
        kept.extend(comma.filter(|_| index > 0));
        kept.extend(option);
    }
    kept.extend(tail);
    kept
}
