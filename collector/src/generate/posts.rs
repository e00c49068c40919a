//! The posts themselves: post `i` is a function of the seed, `i`, and when it is made.

use std::fmt::Write;
use std::sync::Arc;

use super::bursts::Bursts;
use super::pace::Pace;
use super::random::{Random, Zipf};
use super::vocabulary::{HASHTAGS, SCRIPTS, Script, Strings, Vocabulary, WORDS, pick_script};

/// How many authors there are. The square of an even draw makes some of them write far more than others.
const AUTHORS: u64 = 250_000;
const SECOND_MS: u64 = 1000;
/// An author's number starts here.
const FIRST_USER_ID: i64 = 100_000;
/// Post numbers hold the milliseconds since 2020 in their upper bits, as large services do, so that they sort by time.
const ID_EPOCH_MS: i64 = 1_577_836_800_000;
const ID_INDEX_BITS: u32 = 22;

const EMOJI: [&str; 16] = ["😂", "❤️", "🔥", "😍", "🎉", "🙏", "👍🏽", "😭", "✨", "🚀", "🌍", "☕", "🎵", "⚽", "👩‍💻", "🇨🇿"];
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// One post: a record of the sample schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// The author.
    pub userid: i64,
    /// The author's handle.
    pub username: String,
    /// The event time, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The post's number.
    pub tweetid: i64,
    /// The text.
    pub tweet: String,
}

/// Makes posts.
#[derive(Clone)]
pub struct Generator {
    seed: u64,
    vocabulary: Arc<Vocabulary>,
    hashtags: Arc<Zipf>,
    words: Arc<Zipf>,
    bursts: Bursts,
}

impl Generator {
    /// A generator whose every post is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Generator {
            seed,
            vocabulary: Arc::new(Vocabulary::new()),
            hashtags: Arc::new(Zipf::new(HASHTAGS, 12)),
            words: Arc::new(Zipf::new(WORDS, 4)),
            bursts: Bursts::default(),
        }
    }

    /// All posts of a pace, without end.
    pub fn posts(mut self, pace: Pace) -> impl Iterator<Item = Post> {
        (pace.first..).map(move |index| {
            let mut post = Post::default();
            self.write(index, &pace, &mut post);
            post
        })
    }

    /// Makes post `index` in place of what `post` was.
    pub fn write(&mut self, mut index: u64, pace: &Pace, post: &mut Post) {
        let mut random = Random::new(self.seed, index);
        // Some posts arrive twice: they are an earlier one, to the byte.
        while let Some(earlier) = repeats(&mut random, index, pace.first) {
            index = earlier;
            random = Random::new(self.seed, index);
        }
        let made_us = pace.time_us(index);
        let mut behind_ms = random.below(3 * SECOND_MS);
        if random.chance(5, 1000) {
            behind_ms += 10 * SECOND_MS + random.below(110 * SECOND_MS);
        }
        let made_ms = made_us.div_euclid(1000);
        post.timestamp_ms = made_ms - behind_ms as i64;
        post.tweetid = ((made_ms - ID_EPOCH_MS).max(0) << ID_INDEX_BITS) | (index as i64 & ((1 << ID_INDEX_BITS) - 1));
        let author = self.author(&mut random);
        post.userid = FIRST_USER_ID + author as i64;
        post.username.clear();
        self.push_username(author, &mut post.username);
        post.tweet.clear();
        self.push_text(made_us, &mut random, &mut post.tweet);
    }

    fn author(&self, random: &mut Random) -> u64 {
        let even = random.below(1 << 32);
        ((u128::from(even) * u128::from(even) * u128::from(AUTHORS)) >> 64) as u64
    }

    fn push_username(&self, author: u64, out: &mut String) {
        let mut random = Random::new(0, author);
        // Handles are of plain letters.
        for _ in 0..2 {
            let word = self.word(0, random.below(WORDS as u64) as usize);
            out.extend(word.chars().filter(char::is_ascii));
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{author}");
    }

    fn word(&self, script: usize, index: usize) -> &str {
        self.vocabulary.words.get(script).map_or("", |words| words.get(index))
    }

    /// About 127 characters: words, and what people put between them.
    fn push_text(&mut self, made_us: i64, random: &mut Random, out: &mut String) {
        let mut hashtags = [0; 4];
        let wanted = match random.below(100) {
            0..62 => 0,
            62..86 => 1,
            86..95 => 2,
            95..98 => 3,
            _ => 4,
        };
        for slot in hashtags.iter_mut().take(wanted) {
            *slot = self.bursts.pick(self.seed, made_us, random).unwrap_or_else(|| self.hashtags.sample(random));
        }
        let hashtags = hashtags.get(..wanted).unwrap_or_default();
        let first = hashtags.first().and_then(|hashtag| self.vocabulary.hashtag_scripts.get(*hashtag));
        let script_index = first.map_or_else(|| pick_script(random), |script| usize::from(*script));
        let (Some(script), Some(words)) = (SCRIPTS.get(script_index), self.vocabulary.words.get(script_index)) else { return };

        if random.chance(30, 100) {
            out.push('@');
            let author = self.author(random);
            self.push_username(author, out);
            out.push(' ');
        }
        // One of five hashtags is a word of a sentence, the others come after it.
        let inner = hashtags.first().filter(|_| random.chance(20, 100));
        self.push_sentences(script, words, inner.copied(), random, out);
        let after = if inner.is_some() { hashtags.get(1..).unwrap_or_default() } else { hashtags };
        for hashtag in after {
            out.push(' ');
            self.push_hashtag(*hashtag, random, out);
        }
        if random.chance(18, 100) {
            out.push(' ');
            for _ in 0..1 + random.below(3) {
                out.push_str(random.pick(&EMOJI).copied().unwrap_or_default());
            }
        }
        if random.chance(20, 100) {
            out.push_str(" https://example.org/");
            for _ in 0..8 {
                out.extend(random.pick(LETTERS).map(|letter| char::from(*letter)));
            }
            // A number sign that begins no hashtag.
            if random.chance(1, 20) {
                out.push_str("#top");
            }
        }
    }

    fn push_sentences(&self, script: &Script, words: &Strings, mut inner: Option<usize>, random: &mut Random, out: &mut String) {
        let target = 20 + random.below(86) + random.below(86);
        let mut length = 0;
        let mut word_of_sentence = 0;
        while length < target {
            if let Some(hashtag) = inner.take_if(|_| length * 2 > target) {
                out.push(' ');
                self.push_hashtag(hashtag, random, out);
                out.push(' ');
            }
            let word = words.get(self.words.sample(random));
            if word_of_sentence > 0 {
                out.push_str(script.space);
                length += script.space.len() as u64;
            }
            out.push_str(word);
            // Counted in code points, of which every one has exactly one byte that does not continue another.
            length += word.bytes().filter(|byte| byte & 0xC0 != 0x80).count() as u64;
            word_of_sentence += 1;
            if word_of_sentence > 4 && random.chance(1, 8) && length < target {
                out.push_str(script.stop);
                length += 2;
                word_of_sentence = 0;
            }
        }
    }

    fn push_hashtag(&self, hashtag: usize, random: &mut Random, out: &mut String) {
        let word = self.vocabulary.hashtags.get(hashtag);
        out.push('#');
        // The same hashtag in another case.
        if random.chance(1, 10) { out.extend(word.chars().flat_map(char::to_uppercase)) } else { out.push_str(word) }
    }
}

/// The earlier post of the same stretch that post `index` repeats; mostly none.
fn repeats(random: &mut Random, index: u64, first: u64) -> Option<u64> {
    let earlier = (index - first).min(1000);
    let draw = random.below(500_000);
    (draw < 1000 && earlier > 0).then(|| index - 1 - draw % earlier)
}
