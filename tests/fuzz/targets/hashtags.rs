//! Any text: hashtags and mentions are parts of it, in order, of the characters that they may have.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use refold_processor::view::functions::{Hashtags, Mentions};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut to = 0;
    Hashtags::new().each(&text, |hashtag| {
        let place = place_of(hashtag, &text);
        assert!(to < place.start, "{hashtag:?} overlaps the one before it");
        to = place.end;
        assert!(text[..place.start].ends_with(['#', '＃']), "{hashtag:?} has no sign");
        assert!(!hashtag.contains(['#', '＃', '@', '/', ' ', '.']), "{hashtag:?} is more than a hashtag");
        assert!(!hashtag.bytes().all(|b| b.is_ascii_digit() || b == b'_'), "{hashtag:?} has no letter");
    });
    let mut to = 0;
    Mentions::each(&text, |name| {
        let place = place_of(name, &text);
        assert!(to < place.start, "{name:?} overlaps the one before it");
        to = place.end;
        assert!(text[..place.start].ends_with(['@', '＠']), "{name:?} has no sign");
        assert!(
            (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            "{name:?} is no screen name"
        );
    });
});

fn place_of(part: &str, text: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}
