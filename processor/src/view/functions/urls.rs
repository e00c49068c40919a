//! Where the links of a text are, by Twitter's published rules: a hashtag inside of a link is none.
//!
//! The rules are those of `VALID_URL` in twitter-text 3's `Regex.java` and `extractURLsWithIndices` in its `Extractor.java` (Apache-2.0,
//! <https://github.com/twitter/twitter-text>), written as a scan. Top-level domains are those of today. The length of a label is
//! judged as written, not in its ASCII form.

use super::classes::latin_accent;
use super::hashtags::Span;
use super::tlds;

/// Longer host names are none: DNS has no place for them. It also bounds the work on a hostile text.
const LONGEST_HOST: usize = 256;
const LONGEST_LABEL: usize = 63;
const LONGEST_LINK: usize = 4096;
const LONGEST_TCO_SLUG: usize = 40;

/// Whether `c`, which is no character of a hashtag, may be in a link right before a `#` that belongs to the link.
pub(super) fn may_be_inside(c: char) -> bool {
    in_path(c) || in_query(c) || matches!(c, '?' | '(' | ')')
}

/// The links of a text, from left to right.
pub(super) fn find(text: &str) -> Vec<Span> {
    let mut links = Vec::new();
    if !text.contains('.') {
        return links;
    }
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let after = at + c.len_utf8();
        let found = match may_precede(c).then(|| link_at(text, after)).flatten() {
            Some(link) => Some((Some(c), link)),
            None if at == 0 => link_at(text, 0).map(|link| (None, link)),
            None => None,
        };
        let Some((before, link)) = found else {
            at = after;
            continue;
        };
        // The search goes on where the match ends: the character before the next link is not part of this one.
        at = link.span.end;
        let bare_but_joined = !link.has_protocol && matches!(before, Some('-' | '_' | '.' | '/'));
        if !bare_but_joined {
            links.extend(accepted(text, link));
        }
    }
    links
}

struct Link {
    span: Span,
    host: Span,
    has_protocol: bool,
}

fn may_precede(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || matches!(c, '@' | '＠' | '$' | '#' | '＃' | '\u{fffe}' | '\u{feff}' | '\u{ffff}'))
}

fn link_at(text: &str, start: usize) -> Option<Link> {
    let protocol = protocol_length(text.get(start..)?);
    let with_protocol = (protocol > 0).then(|| host_at(text, start + protocol).map(|end| (start + protocol..end, true))).flatten();
    let (host, has_protocol) = match with_protocol {
        Some(found) => found,
        None => (start..host_at(text, start)?, false),
    };
    let mut end = host.end;
    end += port_length(text.get(end..)?);
    end += path_length(text.get(end..)?);
    end += query_length(text.get(end..)?);
    Some(Link { span: start..end, host, has_protocol })
}

/// The link's span, unless it is too long in one of its parts. Links of `t.co` end after their slug.
fn accepted(text: &str, link: Link) -> Option<Span> {
    let mut span = link.span;
    let host = text.get(link.host.clone())?;
    if link.has_protocol && host.eq_ignore_ascii_case("t.co") {
        let after = text.get(link.host.end..span.end)?;
        let slug = after.strip_prefix('/').map_or(0, |path| path.bytes().take_while(u8::is_ascii_alphanumeric).count());
        if slug > LONGEST_TCO_SLUG {
            return None;
        }
        if slug > 0 {
            let slug_end = link.host.end + 1 + slug;
            span.end = slug_end + query_length(text.get(slug_end..span.end)?);
        }
    }
    let labels_fit = host.split('.').all(|label| label.chars().count() <= LONGEST_LABEL);
    let length = text.get(span.clone())?.chars().count() + if link.has_protocol { 0 } else { "https://".len() };
    (labels_fit && length <= LONGEST_LINK).then_some(span)
}

fn protocol_length(rest: &str) -> usize {
    ["http://", "https://"].into_iter().find(|p| rest.get(..p.len()).is_some_and(|start| start.eq_ignore_ascii_case(p))).map_or(0, str::len)
}

/// The end of the host name that starts here: labels with dots, and a top-level domain.
fn host_at(text: &str, start: usize) -> Option<usize> {
    plain_host_at(text, start).or_else(|| unicode_host_at(text, start))
}

/// A host of ASCII and accented Latin letters. As many labels as possible belong to it.
fn plain_host_at(text: &str, start: usize) -> Option<usize> {
    let mut end = None;
    let mut at = start;
    while let Some(label) = label_length(text.get(at..)?, |c| in_host(c) || c == '_', in_host) {
        let label_end = at + label;
        let has_underscore = text.get(at..label_end)?.contains('_');
        at = label_end + 1;
        if at - start > LONGEST_HOST {
            break;
        }
        if !has_underscore && let Some(tld) = tld_or_punycode(text.get(at..)?) {
            end = Some(at + tld);
        }
    }
    end
}

/// After a protocol, a host of one label in any script.
fn unicode_host_at(text: &str, start: usize) -> Option<usize> {
    let before = text.get(..start)?;
    let after_protocol = ["http://", "https://"]
        .iter()
        .any(|p| before.len() >= p.len() && before.get(before.len() - p.len()..).is_some_and(|end| end.eq_ignore_ascii_case(p)));
    if !after_protocol {
        return None;
    }
    let label = label_length(text.get(start..)?, in_unicode_host, in_unicode_host)?;
    let at = start + label + 1;
    tld_length(text.get(at..)?).map(|tld| at + tld)
}

/// The length of the label before the next dot. Hyphens may be within; its first and last characters are `outer`.
fn label_length(rest: &str, inner: impl Fn(char) -> bool, outer: impl Fn(char) -> bool) -> Option<usize> {
    let mut last = None;
    for (at, c) in rest.char_indices() {
        if c == '.' {
            return last.is_some_and(&outer).then_some(at);
        }
        let fits = if last.is_none() { outer(c) } else { inner(c) || c == '-' };
        if !fits || at > LONGEST_HOST {
            return None;
        }
        last = Some(c);
    }
    None
}

fn tld_or_punycode(rest: &str) -> Option<usize> {
    tld_length(rest).or_else(|| {
        let name = rest.get(..4).filter(|start| start.eq_ignore_ascii_case("xn--")).and_then(|start| rest.get(start.len()..))?;
        let length = name.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
        (length > 0).then_some(4 + length)
    })
}

/// The length of the top-level domain that `rest` starts with. It is not followed by what would make it another word.
fn tld_length(rest: &str) -> Option<usize> {
    let ends_at = |length: usize| {
        !rest
            .get(length..)
            .and_then(|after| after.chars().next())
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '@' | '+' | '-'))
    };
    let plain = rest.bytes().take(LONGEST_LABEL + 1).take_while(u8::is_ascii_alphanumeric).count();
    let in_other_script = || {
        let names = tlds::BEYOND_ASCII.iter().filter(|name| rest.starts_with(**name) && ends_at(name.len()));
        names.map(|name| name.len()).max()
    };
    if rest.as_bytes().get(plain).is_some_and(|next| !next.is_ascii())
        && let Some(length) = in_other_script()
    {
        return Some(length);
    }
    let name = rest.get(..plain)?;
    let known = tlds::ASCII.binary_search_by(|tld| tld.bytes().cmp(name.bytes().map(|b| b.to_ascii_lowercase()))).is_ok();
    (known && ends_at(plain)).then_some(plain)
}

fn port_length(rest: &str) -> usize {
    let digits = rest.strip_prefix(':').map_or(0, |port| port.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 0 { 0 } else { 1 + digits }
}

/// The length of `/path`: it ends with a character that rather belongs to a path than to the sentence around it.
fn path_length(rest: &str) -> usize {
    if !rest.starts_with('/') {
        return 0;
    }
    let mut end = 1;
    let mut at = 1;
    while let Some(c) = rest.get(at..).and_then(|rest| rest.chars().next()) {
        if in_path(c) {
            at += c.len_utf8();
            if ends_path(c) {
                end = at;
            }
        } else if let Some(length) = rest.get(at..).and_then(parenthesis_length) {
            at += length;
            end = at;
        } else {
            break;
        }
    }
    end
}

/// The length of `(…)` or `(…(…)…)`.
fn parenthesis_length(rest: &str) -> Option<usize> {
    let run = |from: usize| rest.get(from..).map_or(0, |rest| rest.chars().take_while(|c| in_path(*c)).map(char::len_utf8).sum::<usize>());
    let is = |at: usize, sign: &str| rest.get(at..).is_some_and(|rest| rest.starts_with(sign));
    if !is(0, "(") {
        return None;
    }
    let outer = run(1);
    let mut at = 1 + outer;
    if outer > 0 && is(at, ")") {
        return Some(at + 1);
    }
    if !is(at, "(") {
        return None;
    }
    let inner = run(at + 1);
    at += 1 + inner;
    if inner == 0 || !is(at, ")") {
        return None;
    }
    at += 1;
    at += run(at);
    is(at, ")").then_some(at + 1)
}

fn query_length(rest: &str) -> usize {
    let Some(query) = rest.strip_prefix('?') else { return 0 };
    let longest: usize = query.chars().take_while(|c| in_query(*c)).map(char::len_utf8).sum();
    let last = query.get(..longest).and_then(|query| query.rfind(ends_query));
    last.map_or(0, |last| last + 2)
}

fn in_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || latin_accent(c)
}

fn in_unicode_host(c: char) -> bool {
    use unicode_general_category::{GeneralCategory, get_general_category};
    if c.is_ascii() {
        let space = matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
        let punctuation = c.is_ascii_punctuation() && c != '\\';
        return !(space || punctuation);
    }
    let separator = matches!(
        get_general_category(c),
        GeneralCategory::SpaceSeparator | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator
    );
    !separator && !matches!(c, '\u{2000}'..='\u{206f}')
}

fn in_path(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '*' | '\'' | ';' | ':' | '=' | '+' | ',' | '.' | '$' | '/' | '%' | '#' | '[' | ']' | '-' | '\u{2013}' | '_' | '~' | '|'
        | '&' | '@' => true,
        _ => latin_accent(c) || cyrillic(c),
    }
}

fn ends_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '=' | '_' | '#' | '/' | '-' | '+') || latin_accent(c) || cyrillic(c)
}

fn in_query(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '!' | '?'
                | '*'
                | '\''
                | '('
                | ')'
                | ';'
                | ':'
                | '&'
                | '='
                | '+'
                | '$'
                | '/'
                | '%'
                | '#'
                | '['
                | ']'
                | '-'
                | '_'
                | '.'
                | ','
                | '~'
                | '|'
                | '@'
        )
}

fn ends_query(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '&' | '=' | '#' | '/')
}

fn cyrillic(c: char) -> bool {
    matches!(c, '\u{0400}'..='\u{04ff}')
}
