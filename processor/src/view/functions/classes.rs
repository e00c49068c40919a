//! The characters of hashtags, as Twitter publishes them in twitter-text (Apache-2.0, <https://github.com/twitter/twitter-text>,
//! `Regex.java` and `js/src/regexp`): letters and marks, decimal digits, and a list of signs that join them.

use unicode_general_category::{GeneralCategory, get_general_category};

/// What a character may be in a hashtag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A letter or a mark: a hashtag has at least one.
    Letter,
    /// A digit or a joining sign: may be anywhere in a hashtag, but does not make one.
    Joins,
    /// Ends a hashtag.
    Outside,
}

/// The class of a character.
#[inline]
pub(super) fn class_of(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' | '_' => Class::Joins,
        '\0'..='\x7f' => Class::Outside,
        _ => class_beyond_ascii(c),
    }
}

fn class_beyond_ascii(c: char) -> Class {
    if joins(c) {
        return Class::Joins;
    }
    match get_general_category(c) {
        GeneralCategory::UppercaseLetter
        | GeneralCategory::LowercaseLetter
        | GeneralCategory::TitlecaseLetter
        | GeneralCategory::ModifierLetter
        | GeneralCategory::OtherLetter
        | GeneralCategory::NonspacingMark
        | GeneralCategory::SpacingMark
        | GeneralCategory::EnclosingMark => Class::Letter,
        GeneralCategory::DecimalNumber => Class::Joins,
        GeneralCategory::PrivateUse if private_letter(c) => Class::Letter,
        _ => Class::Outside,
    }
}

/// The joining signs beyond ASCII: twitter-text's `hashtagSpecialChars`.
fn joins(c: char) -> bool {
    matches!(
        c,
        '\u{00b7}'                  // middle dot
        | '\u{05be}'                // Hebrew maqaf
        | '\u{05f3}' | '\u{05f4}'   // Hebrew geresh, gershayim
        | '\u{0f0b}' | '\u{0f0c}'   // Tibetan tshegs
        | '\u{200c}' | '\u{200d}'   // zero-width non-joiner, joiner
        | '\u{3003}'                // ditto mark
        | '\u{301c}'                // wave dash
        | '\u{309b}' | '\u{309c}'   // kana voiced and semi-voiced sound marks
        | '\u{30a0}' | '\u{30fb}'   // katakana double hyphen, middle dot
        | '\u{a67e}'                // Cyrillic kavyka
        | '\u{ff5e}' // full-width tilde
    )
}

/// The private-use characters that twitter-text takes for letters.
fn private_letter(c: char) -> bool {
    matches!(c, '\u{f870}'..='\u{f87f}' | '\u{f882}' | '\u{f884}'..='\u{f89f}' | '\u{f8b8}' | '\u{f8c1}'..='\u{f8d6}')
}

/// Letters with accents of the Latin scripts: twitter-text's `latinAccentChars`.
pub(super) fn latin_accent(c: char) -> bool {
    matches!(
        c,
        '\u{00c0}'..='\u{00d6}' | '\u{00d8}'..='\u{00f6}' | '\u{00f8}'..='\u{024f}'
        | '\u{0253}' | '\u{0254}' | '\u{0256}' | '\u{0257}' | '\u{0259}' | '\u{025b}' | '\u{0263}' | '\u{0268}' | '\u{026f}'
        | '\u{0272}' | '\u{0289}' | '\u{028b}' | '\u{02bb}'
        | '\u{0300}'..='\u{036f}' | '\u{1e00}'..='\u{1eff}'
    )
}
