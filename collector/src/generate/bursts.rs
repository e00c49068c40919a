//! What makes trends: hashtags that rise for ten to thirty minutes of event time, and are gone.

use super::random::Random;
use super::vocabulary::HASHTAGS;

const SECOND_US: i64 = 1_000_000;
const BLOCK_US: i64 = 300 * SECOND_US;
const LONGEST_US: i64 = 1800 * SECOND_US;
/// The stream of random numbers that decides about bursts.
const STREAM: u64 = 0xB095_7000_0000_0000;
/// Shares are in parts of this.
const WHOLE: u64 = 1 << 16;

/// The bursts at one second of event time: a pure function of the seed and the second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bursts {
    second: Option<i64>,
    /// The end of each burst's part of `WHOLE`, and its hashtag.
    active: Vec<(u64, usize)>,
}

impl Bursts {
    /// Draws a hashtag that is rising at `time_us`; mostly none.
    pub fn pick(&mut self, seed: u64, time_us: i64, random: &mut Random) -> Option<usize> {
        let second = time_us.div_euclid(SECOND_US);
        if self.second != Some(second) {
            self.second = Some(second);
            self.fill(seed, second * SECOND_US);
        }
        let number = random.below(WHOLE);
        self.active.iter().find(|(end, _)| number < *end).map(|(_, hashtag)| *hashtag)
    }

    fn fill(&mut self, seed: u64, time_us: i64) {
        self.active.clear();
        let mut end = 0;
        let block = time_us.div_euclid(BLOCK_US);
        for start in block - LONGEST_US / BLOCK_US..=block {
            let mut random = Random::new(seed, STREAM ^ start as u64);
            if !random.chance(2, 3) {
                continue;
            }
            let begins = start * BLOCK_US + random.below(BLOCK_US as u64) as i64;
            let length = LONGEST_US / 3 + random.below((LONGEST_US * 2 / 3) as u64) as i64;
            let peak = WHOLE / 50 + random.below(WHOLE / 12);
            // Neither one of the everyday hashtags nor one that nobody ever uses.
            let hashtag = 100 + random.below(HASHTAGS as u64 / 2) as usize;
            end += share(time_us - begins, length, peak);
            self.active.push((end, hashtag));
        }
    }
}

/// Rises in the first third, falls in the other two.
fn share(age_us: i64, length_us: i64, peak: u64) -> u64 {
    let rise = length_us / 3;
    let part = if age_us < 0 || age_us >= length_us {
        0
    } else if age_us < rise {
        age_us * 1000 / rise
    } else {
        (length_us - age_us) * 1000 / (length_us - rise)
    };
    peak * part as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_rises_and_falls() {
        let length = 1800 * SECOND_US;
        assert_eq!(share(-1, length, 1000), 0);
        assert_eq!(share(300 * SECOND_US, length, 1000), 500);
        assert_eq!(share(600 * SECOND_US, length, 1000), 1000);
        assert_eq!(share(1200 * SECOND_US, length, 1000), 500);
        assert_eq!(share(length, length, 1000), 0);
    }
}
