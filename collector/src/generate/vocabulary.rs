//! The words of generated posts: pronounceable, in several scripts, made from syllables. They are the same for every seed.

use std::collections::HashSet;

use super::random::Random;

/// How many hashtags there are.
pub(crate) const HASHTAGS: usize = 60_000;
/// How many words a script has.
pub(crate) const WORDS: usize = 4096;

/// Strings, close together in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    text: String,
    ends: Vec<u32>,
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
    }

    pub fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(index).map_or(start, |end| *end as usize);
        self.text.get(start..end).unwrap_or_default()
    }
}

/// How a script is written.
pub(crate) struct Script {
    /// Percent of the hashtags, and so about of the posts.
    share: u64,
    /// Between words.
    pub space: &'static str,
    /// After a sentence.
    pub stop: &'static str,
    syllable: fn(&mut Random, &mut String),
    /// The fewest and the most syllables of a word.
    syllables: (u64, u64),
}

pub(crate) const SCRIPTS: [Script; 6] = [
    Script { share: 70, space: " ", stop: ". ", syllable: latin, syllables: (1, 4) },
    Script { share: 6, space: " ", stop: ". ", syllable: cyrillic, syllables: (1, 4) },
    Script { share: 7, space: " ", stop: "؟ ", syllable: arabic, syllables: (2, 4) },
    Script { share: 5, space: " ", stop: "। ", syllable: devanagari, syllables: (2, 4) },
    Script { share: 8, space: "", stop: "。", syllable: han, syllables: (1, 3) },
    Script { share: 4, space: " ", stop: ". ", syllable: hangul, syllables: (2, 4) },
];

/// All words.
pub(crate) struct Vocabulary {
    /// By script.
    pub words: Vec<Strings>,
    /// Without the number sign, most used first.
    pub hashtags: Strings,
    /// The script of each hashtag.
    pub hashtag_scripts: Vec<u8>,
}

impl Vocabulary {
    pub fn new() -> Self {
        let mut random = Random::new(0x0005_7A6D_0001, 0);
        let mut words = Vec::with_capacity(SCRIPTS.len());
        for script in &SCRIPTS {
            let mut strings = Strings::default();
            for _ in 0..WORDS {
                strings.push(&word(script, &mut random));
            }
            words.push(strings);
        }
        let mut hashtags = Strings::default();
        let mut hashtag_scripts = Vec::with_capacity(HASHTAGS);
        let mut known = HashSet::with_capacity(HASHTAGS);
        while hashtag_scripts.len() < HASHTAGS {
            let index = pick_script(&mut random);
            let Some(script) = SCRIPTS.get(index) else { continue };
            let mut hashtag = word(script, &mut random);
            if hashtag.chars().count() < 3 || random.chance(1, 3) {
                hashtag.push_str(&capitalized(&word(script, &mut random)));
            }
            if random.chance(1, 20) {
                hashtag.push_str(&(2020 + random.below(10)).to_string());
            }
            // Two spellings of one hashtag are one to a view that folds case.
            if known.insert(hashtag.to_lowercase()) {
                hashtags.push(&hashtag);
                hashtag_scripts.push(index as u8);
            }
        }
        Vocabulary { words, hashtags, hashtag_scripts }
    }
}

/// A script, as often as its share.
pub(crate) fn pick_script(random: &mut Random) -> usize {
    let mut number = random.below(100);
    SCRIPTS
        .iter()
        .position(|script| {
            let here = number < script.share;
            number = number.saturating_sub(script.share);
            here
        })
        .unwrap_or(0)
}

fn word(script: &Script, random: &mut Random) -> String {
    let (fewest, most) = script.syllables;
    let mut word = String::new();
    for _ in 0..fewest + random.below(most - fewest + 1) {
        (script.syllable)(random, &mut word);
    }
    word
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn push_one(list: &[&str], random: &mut Random, out: &mut String) {
    out.push_str(random.pick(list).copied().unwrap_or_default());
}

fn latin(random: &mut Random, out: &mut String) {
    const ONSETS: [&str; 25] =
        ["b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "pl", "st", "tr", "gr", "ch", "š", "ñ", ""];
    const VOWELS: [&str; 12] = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ö", "é"];
    const CODAS: [&str; 8] = ["", "", "", "n", "r", "s", "l", "m"];
    push_one(&ONSETS, random, out);
    push_one(&VOWELS, random, out);
    push_one(&CODAS, random, out);
}

fn cyrillic(random: &mut Random, out: &mut String) {
    const ONSETS: [&str; 16] = ["б", "в", "г", "д", "ж", "з", "к", "л", "м", "н", "п", "р", "с", "т", "ст", "пр"];
    const VOWELS: [&str; 7] = ["а", "е", "и", "о", "у", "ы", "я"];
    const CODAS: [&str; 6] = ["", "", "", "н", "р", "л"];
    push_one(&ONSETS, random, out);
    push_one(&VOWELS, random, out);
    push_one(&CODAS, random, out);
}

fn arabic(random: &mut Random, out: &mut String) {
    const CONSONANTS: [&str; 18] = ["ب", "ت", "ج", "ح", "د", "ر", "س", "ش", "ص", "ط", "ع", "ف", "ق", "ك", "ل", "م", "ن", "ه"];
    const VOWELS: [&str; 5] = ["ا", "و", "ي", "", ""];
    push_one(&CONSONANTS, random, out);
    push_one(&VOWELS, random, out);
}

fn devanagari(random: &mut Random, out: &mut String) {
    const CONSONANTS: [&str; 16] = ["क", "ख", "ग", "च", "ज", "ट", "ड", "त", "द", "न", "प", "ब", "म", "र", "ल", "स"];
    const SIGNS: [&str; 8] = ["", "ा", "ि", "ी", "ु", "े", "ो", "ं"];
    push_one(&CONSONANTS, random, out);
    push_one(&SIGNS, random, out);
}

fn han(random: &mut Random, out: &mut String) {
    const SIGNS: [&str; 64] = [
        "山", "川", "日", "月", "火", "水", "木", "金", "土", "天", "地", "人", "大", "小", "中", "上", "下", "東", "西", "南", "北", "春",
        "夏", "秋", "冬", "花", "鳥", "風", "海", "空", "雨", "雪", "音", "楽", "食", "茶", "本", "車", "道", "町", "国", "会", "新", "古",
        "の", "は", "が", "と", "カ", "フ", "ェ", "ラ", "ン", "ス", "い", "う", "ま", "し", "た", "星", "夜", "朝", "光", "心",
    ];
    push_one(&SIGNS, random, out);
}

/// Composed as the Unicode standard does (section 3.12): 19 leading consonants, 21 vowels, 27 final consonants or none.
fn hangul(random: &mut Random, out: &mut String) {
    let (lead, vowel) = (random.below(19) as u32, random.below(21) as u32);
    let tail = if random.chance(1, 3) { 4 } else { 0 };
    out.extend(char::from_u32(0xAC00 + (lead * 21 + vowel) * 28 + tail));
}
