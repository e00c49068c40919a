//! Random numbers that are the same everywhere and for ever: integers only, and no library whose stream may change.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each pair.
    pub fn new(seed: u64, stream: u64) -> Self {
        Random(mix(seed ^ mix(stream.wrapping_add(0x9E37_79B9_7F4A_7C15))))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `bound`; the bias is less than `bound` in 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `share` times in `of`.
    pub fn chance(&mut self, share: u64, of: u64) -> bool {
        self.below(of) < share
    }

    /// One of them.
    pub fn pick<'t, T>(&mut self, items: &'t [T]) -> Option<&'t T> {
        items.get(self.below(items.len() as u64) as usize)
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Ranks of which the k-th has the weight 1 / (k + flatness): Zipf's law as Mandelbrot corrected it.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// The end of each rank's part of 0 ..= `u64::MAX`.
    ends: Vec<u64>,
    /// The first rank that a number with these upper bits may have.
    guide: Vec<u32>,
}

const GUIDE_BITS: u32 = 14;

impl Zipf {
    pub fn new(ranks: usize, flatness: u64) -> Self {
        let weight = |rank: usize| u128::from((1_u64 << 48) / (rank as u64 + flatness));
        let total: u128 = (0..ranks).map(weight).sum();
        let mut sum = 0;
        let mut ends: Vec<u64> = (0..ranks)
            .map(|rank| {
                sum += weight(rank);
                ((sum << 64) / total).saturating_sub(1) as u64
            })
            .collect();
        if let Some(last) = ends.last_mut() {
            *last = u64::MAX;
        }
        let guide = (0..1_u64 << GUIDE_BITS).map(|bucket| ends.partition_point(|end| *end < bucket << (64 - GUIDE_BITS)) as u32).collect();
        Zipf { ends, guide }
    }

    pub fn sample(&self, random: &mut Random) -> usize {
        let number = random.next();
        let first = self.guide.get((number >> (64 - GUIDE_BITS)) as usize).map_or(0, |rank| *rank as usize);
        let later = self.ends.get(first..).unwrap_or_default().iter().take_while(|end| **end < number).count();
        first + later
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_first_numbers_of_splitmix64() {
        // From the reference implementation, started at 1234567.
        let mut random = Random(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn ranks_are_as_frequent_as_their_weight() {
        let (zipf, mut random) = (Zipf::new(1000, 1), Random::new(1, 1));
        let mut counts = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            counts[zipf.sample(&mut random)] += 1;
        }
        // The harmonic number of 1000 is 7.485.
        for rank in [0, 1, 9, 99] {
            let expected = 1_000_000.0 / 7.485 / (rank + 1) as f64;
            assert!((f64::from(counts[rank]) - expected).abs() < expected * 0.1, "rank {rank}: {} of {expected}", counts[rank]);
        }
        assert!(counts.iter().filter(|count| **count == 0).count() == 0, "every rank occurs");
    }
}
