//! The hashtags of a text, by Twitter's published rules.
//!
//! The rules are those of twitter-text 3 (Apache-2.0, <https://github.com/twitter/twitter-text>: `VALID_HASHTAG` and `INVALID_HASHTAG_MATCH_END` in
//! `Regex.java`, `extractHashtagsWithIndices` in `Extractor.java`), with the letters and digits of today's Unicode.

use memchr::memchr2;

use super::classes::{Class, class_of};
use super::urls;

/// `＃`, the full-width sign, in UTF-8.
const FULL_WIDTH: &[u8] = &[0xef, 0xbc, 0x83];

/// A part of a text, in bytes.
pub(super) type Span = std::ops::Range<usize>;

/// Finds hashtags. It holds memory to be used again: one for many texts.
///
/// A hashtag is `#` or `＃` and a run of letters, marks, digits and a few joining signs with at least one letter or mark. Before it comes the
/// start of the text or a character that is neither of that kind nor `&`; after it neither a further `#` nor `://`. What is part of a
/// link is none (`http://example.com/#part`).
#[derive(Debug, Default)]
pub struct Hashtags {
    found: Vec<Span>,
}

impl Hashtags {
    /// A finder.
    #[must_use]
    pub fn new() -> Self {
        Hashtags::default()
    }

    /// Calls `hashtag` with each hashtag of the text, as written, without its sign.
    #[inline]
    pub fn each<'t>(&mut self, text: &'t str, mut hashtag: impl FnMut(&'t str)) {
        self.found.clear();
        let perhaps_in_link = find(text, &mut self.found);
        if perhaps_in_link {
            drop_those_in_links(text, &mut self.found);
        }
        for span in &self.found {
            let sign_width = if text.as_bytes().get(span.start) == Some(&b'#') { 1 } else { FULL_WIDTH.len() };
            if let Some(word) = text.get(span.start + sign_width..span.end) {
                hashtag(word);
            }
        }
    }
}

/// Finds the hashtags, signs included, links or not. Answers whether any of them stands where it could be in a link.
#[inline]
fn find(text: &str, found: &mut Vec<Span>) -> bool {
    let bytes = text.as_bytes();
    let mut perhaps_in_link = false;
    // What an earlier match has used up cannot be the character before a later one.
    let mut used = 0;
    let mut at = 0;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| memchr2(b'#', 0xef, rest)) {
        let start = at + skipped;
        let sign_width = match bytes.get(start) {
            Some(b'#') => 1,
            _ if bytes.get(start..start + FULL_WIDTH.len()) == Some(FULL_WIDTH) => FULL_WIDTH.len(),
            _ => {
                at = start + 1;
                continue;
            }
        };
        at = start + sign_width;
        let before = if start == 0 { None } else { text.get(used..start).and_then(|before| before.chars().next_back()) };
        if start != 0 && !before.is_some_and(may_precede) {
            continue;
        }
        let Some(length) = text.get(at..).and_then(word_length) else { continue };
        at += length;
        used = at;
        if may_follow(bytes.get(at..).unwrap_or_default()) {
            // A host in other scripts may have the full-width sign anywhere.
            perhaps_in_link |= sign_width > 1 || before.is_some_and(urls::may_be_inside);
            found.push(start..at);
        }
    }
    perhaps_in_link
}

fn may_precede(c: char) -> bool {
    // The variation selectors are marks, but they end an emoji, not a word.
    matches!(c, '\u{fe0e}' | '\u{fe0f}') || (c != '&' && class_of(c) == Class::Outside)
}

/// The length of the hashtag that `rest` starts with, if it does.
#[inline]
fn word_length(rest: &str) -> Option<usize> {
    let mut letters = false;
    let mut length = rest.len();
    for (at, c) in rest.char_indices() {
        // "#️" and "#⃣" are the keycap emoji.
        if at == 0 && matches!(c, '\u{fe0f}' | '\u{20e3}') {
            return None;
        }
        match class_of(c) {
            Class::Letter => letters = true,
            Class::Joins => {}
            Class::Outside => {
                length = at;
                break;
            }
        }
    }
    letters.then_some(length)
}

fn may_follow(after: &[u8]) -> bool {
    !(after.starts_with(b"#") || after.starts_with(FULL_WIDTH) || after.starts_with(b"://"))
}

/// Of a link and a hashtag that overlap, the one that starts first stays.
#[cold]
fn drop_those_in_links(text: &str, found: &mut Vec<Span>) {
    let links = urls::find(text);
    let mut next_link = links.iter().peekable();
    let mut kept_to = 0;
    found.retain(|hashtag| {
        while let Some(link) = next_link.next_if(|link| link.start < hashtag.start) {
            if link.start >= kept_to {
                kept_to = link.end;
            }
        }
        let keep = hashtag.start >= kept_to;
        if keep {
            kept_to = hashtag.end;
        }
        keep
    });
}
