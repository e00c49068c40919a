//! When each generated post is made: evenly, in stretches.

use serde::{Deserialize, Serialize};

const SECOND_US: i64 = 1_000_000;

/// A stretch of posts at an even rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The index of its first post.
    pub first: u64,
    /// When that is made; microseconds since the Unix epoch.
    pub origin_us: i64,
    /// Posts a second, at least 1.
    pub rate: u64,
}

impl Pace {
    /// When post `index` is made, in microseconds since the Unix epoch; `index` is not before the stretch.
    pub fn time_us(&self, index: u64) -> i64 {
        let passed = u128::from(index.saturating_sub(self.first)) * SECOND_US as u128 / u128::from(self.rate);
        self.origin_us.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// The index of the first post that is made after `time_us`.
    pub fn after(&self, time_us: i64) -> u64 {
        if time_us < self.origin_us {
            return self.first;
        }
        let whole = (time_us - self.origin_us) as u128 * u128::from(self.rate) / SECOND_US as u128;
        let mut index = self.first.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
        // Both divisions round down, so the estimate is at most one early.
        while self.time_us(index) <= time_us {
            index += 1;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_even_and_after_is_the_inverse() {
        for rate in [1, 3, 7, 1000, 999_983, 3_000_000] {
            let pace = Pace { first: 10, origin_us: 5_000_000, rate };
            assert_eq!(pace.time_us(10), 5_000_000);
            assert_eq!(pace.time_us(10 + rate * 60), 65_000_000);
            assert_eq!(pace.after(4_999_999), 10);
            for index in 10..200 {
                let after = pace.after(pace.time_us(index));
                assert!(after > index && pace.time_us(after) > pace.time_us(index), "rate {rate}, post {index}");
                assert!(pace.time_us(after - 1) <= pace.time_us(index), "rate {rate}, post {index}");
            }
        }
    }
}
