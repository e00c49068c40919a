//! The mentions of a text, by Twitter's published rules.
//!
//! The rules are those of twitter-text 3 (Apache-2.0, <https://github.com/twitter/twitter-text>: `validMentionOrList`, `validMentionPrecedingChars` and
//! `endMentionMatch` in `js/src/regexp`).

use memchr::memchr2;

use super::classes::latin_accent;

/// `＠`, the full-width sign, in UTF-8.
const FULL_WIDTH: &[u8] = &[0xef, 0xbc, 0xa0];
const LONGEST_NAME: usize = 20;
const LONGEST_LIST: usize = 25;

/// Finds mentions.
///
/// A mention is `@` or `＠` and a screen name: up to 20 ASCII letters, digits and `_`. Before it comes the start of the text, a character that is none
/// of those and none of `!#$%&*@＠`, or `RT`; after it neither a further `@`, an accented Latin letter nor `://`. A list
/// (`@name/list`) is no mention.
#[derive(Clone, Copy, Debug)]
pub struct Mentions;

impl Mentions {
    /// Calls `mention` with each screen name mentioned in the text, as written, without its sign.
    #[inline]
    pub fn each<'t>(text: &'t str, mut mention: impl FnMut(&'t str)) {
        let bytes = text.as_bytes();
        // What an earlier match has used up cannot be the character before a later one.
        let mut used = 0;
        let mut at = 0;
        while let Some(skipped) = bytes.get(at..).and_then(|rest| memchr2(b'@', 0xef, rest)) {
            let start = at + skipped;
            at = match bytes.get(start) {
                Some(b'@') => start + 1,
                _ if bytes.get(start..start + FULL_WIDTH.len()) == Some(FULL_WIDTH) => start + FULL_WIDTH.len(),
                _ => {
                    at = start + 1;
                    continue;
                }
            };
            if !text.get(used..start).is_some_and(|before| may_end_with(before, used == 0)) {
                continue;
            }
            let name = run(bytes.get(at..).unwrap_or_default(), LONGEST_NAME, is_name);
            if name == 0 {
                continue;
            }
            let name_end = at + name;
            used = name_end + list_length(bytes.get(name_end..).unwrap_or_default());
            if used == name_end
                && text.get(used..).is_some_and(may_follow)
                && let Some(name) = text.get(at..name_end)
            {
                mention(name);
            }
            at = used;
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn run(bytes: &[u8], most: usize, of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take(most).take_while(|byte| of(**byte)).count()
}

/// Whether a mention may come after `before`, which is all of the text in front of it if `whole`.
fn may_end_with(before: &str, whole: bool) -> bool {
    let mut backwards = before.chars().rev();
    match backwards.next() {
        None => whole,
        Some('t' | 'T') if matches!(backwards.next(), Some('r' | 'R')) => match backwards.next() {
            None => whole,
            Some(c) => !(c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '~' | '.' | '-')),
        },
        Some(c) => !(c.is_ascii_alphanumeric() || matches!(c, '_' | '!' | '#' | '$' | '%' | '&' | '*' | '@' | '＠')),
    }
}

/// The length of `/list` after a screen name: nought if there is none.
fn list_length(after: &[u8]) -> usize {
    match after {
        [b'/', list @ ..] if list.first().is_some_and(u8::is_ascii_alphabetic) => {
            1 + run(list, LONGEST_LIST, |byte| is_name(byte) || byte == b'-')
        }
        _ => 0,
    }
}

fn may_follow(after: &str) -> bool {
    match after.chars().next() {
        Some('@' | '＠') => false,
        Some(c) => !latin_accent(c) && !after.starts_with("://"),
        None => true,
    }
}
