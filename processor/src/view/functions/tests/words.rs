//! Hashtags and mentions beyond the published cases.

use proptest::prelude::*;

use super::super::{Hashtags, Mentions};
use super::reference;

pub fn hashtags(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    Hashtags::new().each(text, |hashtag| found.push(hashtag.to_string()));
    found
}

pub fn mentions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    Mentions::each(text, |mention| found.push(mention.to_string()));
    found
}

const NONE: [&str; 0] = [];

#[test]
fn a_hashtag_in_a_link_is_none() {
    assert_eq!(hashtags("see http://example.com/#part and https://example.com/a?b=(c)&#d"), NONE);
    assert_eq!(hashtags("see example.com/a_(b)#c."), NONE, "a path goes on after parentheses that close");
    assert_eq!(hashtags("see (example.com/a)#c."), ["c"], "this one is closed by the sentence");
    assert_eq!(hashtags("http://❤＃love.com"), NONE, "a host in other scripts may have a full-width sign");
    assert_eq!(hashtags("http://❤＃love.nowhere"), ["love"]);
}

#[test]
fn a_hashtag_after_what_is_no_link_is_one() {
    assert_eq!(hashtags("http://example/#part"), ["part"], "there is no top-level domain");
    assert_eq!(hashtags("either.oxr/#part"), ["part"], "oxr is none");
    assert_eq!(hashtags("end.(#part"), ["part"]);
    assert_eq!(hashtags("https://t.co/abc/#part"), ["part"], "links of t.co end after their slug");
    assert_eq!(hashtags("/example.com/#part"), ["part"], "a bare link does not follow a slash");
}

#[test]
fn of_a_hashtag_and_a_link_that_overlap_the_first_stays() {
    assert_eq!(hashtags("#日本example.com/#part"), ["日本example", "part"]);
}

#[test]
fn keycap_emoji_are_no_hashtags() {
    assert_eq!(hashtags("#\u{fe0f}\u{20e3}a #\u{20e3}b"), NONE);
    assert_eq!(hashtags("❤\u{fe0f}#love"), ["love"], "an emoji may stand before one");
}

#[test]
fn two_hashtags_need_something_between() {
    assert_eq!(hashtags("#a#b"), NONE);
    assert_eq!(hashtags("#a##b"), ["b"]);
    assert_eq!(hashtags("##a"), ["a"]);
    assert_eq!(hashtags("#a\u{fe0f}#b"), NONE, "the variation selector is part of the first");
    assert_eq!(hashtags("&#nbsp;"), NONE);
}

#[test]
fn private_use_letters_of_the_rule_are_letters() {
    assert_eq!(hashtags("#\u{f882} #\u{f883}"), ["\u{f882}"]);
}

#[test]
fn a_screen_name_is_cut_after_twenty_characters() {
    assert_eq!(mentions("@abcdefghijklmnopqrstuvwxyz"), ["abcdefghijklmnopqrst"]);
}

#[test]
fn a_full_width_sign_makes_a_mention() {
    assert_eq!(mentions("hello ＠refold！"), ["refold"]);
}

/// Quadratic work on these would take minutes.
#[test]
#[allow(clippy::disallowed_methods, reason = "it measures the functions, not events")]
fn hostile_texts_take_linear_time() {
    for part in ["a.", "a-", "#a:", "t.co/(", "(", "http://", "é.", ".#a", "a/(b(c", "?", "xn--", "@a", "＠"] {
        let text = format!("{}#end", part.repeat(200_000 / part.len()));
        let started = std::time::Instant::now();
        hashtags(&text);
        mentions(&text);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{part:?} again and again took {:?}", started.elapsed());
    }
}

/// Texts that are made of what the rules are about.
fn texts() -> impl Strategy<Value = String> {
    const PARTS: &[&str] = &[
        "#",
        "#",
        "#",
        "＃",
        "@",
        "＠",
        " ",
        " ",
        "\n",
        "a",
        "Z",
        "7",
        "_",
        "-",
        ".",
        "/",
        ":",
        "://",
        "(",
        ")",
        "?",
        "&",
        "!",
        "=",
        "$",
        "%",
        "*",
        "+",
        "~",
        "–",
        "[",
        "]",
        "…",
        "。",
        "http://",
        "HTTPS://",
        "https://t.co/Ab1",
        "example.com",
        "x.co.uk/a",
        "http://✪df.ws/e",
        "t.co",
        "www.",
        ".com",
        ".museum",
        ".中国",
        "xn--p1ai",
        "com/",
        "com/#",
        "?q=1",
        ":80",
        "RT",
        "rt:",
        "Rt",
        "é",
        "ß",
        "İ",
        "日本語",
        "ハッシュ",
        "・",
        "한국",
        "тег",
        "҂",
        "ا",
        "٣",
        "\u{200c}",
        "\u{200d}",
        "क्ष",
        "१",
        "\u{0301}",
        "\u{fe0e}",
        "\u{fe0f}",
        "\u{20e3}",
        "❤",
        "🎉",
        "👩\u{200d}🚀",
        "\u{f870}",
        "\u{feff}",
        "\u{2028}",
        "·",
        "\u{20021}",
        "𝟗",
        "name",
        "/list-1",
        "abcdefghijklmnopqrst",
    ];
    let part = prop_oneof![9 => proptest::sample::select(PARTS).prop_map(str::to_string), 1 => any::<char>().prop_map(String::from)];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

/// How many texts are tried: `make prove` tries more.
fn cases() -> u32 {
    match std::env::var("REFOLD_PROVE_SCALE").as_deref() {
        Ok("full") => 500_000,
        _ => 20_000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn hashtags_are_those_of_the_regular_expressions(text in texts()) {
        prop_assert_eq!(hashtags(&text), reference::hashtags(&text));
    }

    #[test]
    fn mentions_are_those_of_the_regular_expressions(text in texts()) {
        prop_assert_eq!(mentions(&text), reference::mentions(&text));
    }
}
