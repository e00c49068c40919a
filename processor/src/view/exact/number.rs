//! Sums of floating-point numbers without rounding.
//!
//! A finite `f64` is a whole number of units of 2^-1074, and a product of two one of units of 2^-2148. [`Exact`] adds such numbers as
//! integers of any size, in limbs of 32 bits with room for carries, after R. Neal, "Fast exact summation using small and large
//! superaccumulators", 2015. Addition of integers is associative, so the state is the same in every order.

use datafusion::common::exec_err;
use datafusion::error::Result;
use num_bigint::{BigInt, BigUint, Sign};

const NAN: u8 = 1;
const PLUS_INFINITY: u8 = 2;
const MINUS_INFINITY: u8 = 4;
const NEGATIVE: u8 = 8;

/// The exponent of the unit of a sum; that of products is twice as low.
const UNIT: i64 = -1074;
/// More limbs than any sum of products has.
const MAX_LIMBS: usize = 160;
/// Additions to a limb before its carry must be taken on: each is below 2^32.
const MAX_PENDING: u32 = 1 << 29;
const LIMB: i64 = 1 << 32;

/// A sum of numbers, exact.
#[derive(Clone, Debug, Default)]
pub(super) struct Exact {
    /// The place of the first limb, in limbs from the unit.
    low: usize,
    /// Little end first. Between carries a limb may be negative, or of more than 32 bits.
    limbs: Vec<i64>,
    pending: u32,
    special: u8,
}

impl Exact {
    /// Adds a number, in units of 2^-1074.
    pub fn add(&mut self, value: f64) {
        if let Some((mantissa, place)) = self.parts(value) {
            self.add_at(value.is_sign_negative(), u128::from(mantissa), place);
        }
    }

    /// Adds the product of two numbers, in units of 2^-2148.
    pub fn add_product(&mut self, a: f64, b: f64) {
        if let (Some((a_mantissa, a_place)), Some((b_mantissa, b_place))) = (self.parts(a), self.parts(b)) {
            let negative = a.is_sign_negative() != b.is_sign_negative();
            self.add_at(negative, u128::from(a_mantissa) * u128::from(b_mantissa), a_place + b_place);
        }
    }

    /// The mantissa and how far it is shifted from the unit. Notes what is no number.
    fn parts(&mut self, value: f64) -> Option<(u64, usize)> {
        if !value.is_finite() {
            self.special |= if value.is_nan() {
                NAN
            } else if value > 0.0 {
                PLUS_INFINITY
            } else {
                MINUS_INFINITY
            };
            return None;
        }
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let exponent = usize::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
        if exponent == 0 { Some((fraction, 0)) } else { Some((fraction | 1 << 52, exponent - 1)) }
    }

    fn add_at(&mut self, negative: bool, magnitude: u128, place: usize) {
        if magnitude == 0 {
            return;
        }
        let (first, shift) = (place / 32, place % 32);
        self.reach(first, first + 5);
        let start = first - self.low;
        let sign = if negative { -1 } else { 1 };
        for (piece, limb) in (0..4).zip(start..) {
            let part = ((magnitude >> (32 * piece)) & 0xffff_ffff) as u64;
            let shifted = part << shift;
            self.add_to(limb, sign * (shifted & 0xffff_ffff) as i64);
            self.add_to(limb + 1, sign * (shifted >> 32) as i64);
        }
        self.pending += 2;
        if self.pending >= MAX_PENDING {
            self.carry();
        }
    }

    fn add_to(&mut self, limb: usize, amount: i64) {
        if let Some(limb) = self.limbs.get_mut(limb) {
            *limb += amount;
        }
    }

    /// Makes the limbs from `first` to before `end` exist.
    fn reach(&mut self, first: usize, end: usize) {
        if self.limbs.is_empty() {
            self.low = first;
        }
        if first < self.low {
            self.limbs.splice(0..0, std::iter::repeat_n(0, self.low - first));
            self.low = first;
        }
        if self.low + self.limbs.len() < end {
            self.limbs.resize(end - self.low, 0);
        }
    }

    /// Brings all limbs but the last into 0..2^32.
    fn carry(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs {
            let sum = *limb + carry;
            *limb = sum.rem_euclid(LIMB);
            carry = sum.div_euclid(LIMB);
        }
        if carry != 0 {
            self.limbs.push(carry);
        }
        self.pending = 1;
    }

    /// The sign, the magnitude without zeros at its ends, and the place of its first limb: one form for each value.
    fn canonical(&self) -> (bool, Vec<u32>, usize) {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.limbs.last().is_some_and(|top| *top < 0);
        if negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum.carry();
        }
        let digits: Vec<u32> = sum.limbs.iter().map(|limb| (limb & (LIMB - 1)) as u32).collect();
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        let end = digits.iter().rposition(|digit| *digit != 0).map_or(leading, |last| last + 1);
        let magnitude = digits.get(leading..end).unwrap_or_default().to_vec();
        let low = if magnitude.is_empty() { 0 } else { sum.low + leading };
        (negative, magnitude, low)
    }

    /// The one state of this value: flags, the place of the first limb (16 bits), limbs; little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (negative, magnitude, low) = self.canonical();
        let mut bytes = Vec::with_capacity(3 + 4 * magnitude.len());
        bytes.push(self.special | if negative { NEGATIVE } else { 0 });
        bytes.extend_from_slice(&(low as u16).to_le_bytes());
        for limb in magnitude {
            bytes.extend_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// Adds a sum from its state.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        let [flags, low_0, low_1, limbs @ ..] = bytes else { return exec_err!("an exact sum has at least 3 bytes") };
        let low = usize::from(u16::from_le_bytes([*low_0, *low_1]));
        let (limbs, rest) = limbs.as_chunks::<4>();
        if !rest.is_empty() || low + limbs.len() > MAX_LIMBS {
            return exec_err!("not an exact sum");
        }
        self.special |= flags & (NAN | PLUS_INFINITY | MINUS_INFINITY);
        if limbs.is_empty() {
            return Ok(());
        }
        self.reach(low, low + limbs.len());
        let start = low - self.low;
        for (limb, place) in limbs.iter().zip(start..) {
            let amount = i64::from(u32::from_le_bytes(*limb));
            self.add_to(place, if flags & NEGATIVE != 0 { -amount } else { amount });
        }
        self.pending += 1;
        if self.pending >= MAX_PENDING {
            self.carry();
        }
        Ok(())
    }

    /// What is no number, if anything is: not a number, or infinite.
    fn special(&self) -> Option<f64> {
        match self.special {
            0 => None,
            PLUS_INFINITY => Some(f64::INFINITY),
            MINUS_INFINITY => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// The nearest `f64`, ties to even.
    pub fn rounded(&self) -> f64 {
        if let Some(special) = self.special() {
            return special;
        }
        let (negative, magnitude, low) = self.canonical();
        nearest(negative, &magnitude, low, 0)
    }

    /// The nearest `f64` to the sum divided by `count`, ties to even. Not a sum that was rounded first: that may be infinite where the average is not.
    pub fn average(&self, count: u64) -> f64 {
        let Some(sum) = self.integer().filter(|_| count > 0) else { return self.special().unwrap_or(f64::NAN) };
        // So many more bits than the count has that the quotient has more than a mantissa, and a bit for what is left.
        let shifted = sum.magnitude() << AVERAGE_BITS;
        let (count, one) = (BigUint::from(count), BigUint::from(1_u8));
        let (mut quotient, rest) = (&shifted / &count, &shifted % &count);
        if rest > BigUint::default() {
            quotient |= one;
        }
        nearest(sum.sign() == Sign::Minus, &quotient.to_u32_digits(), 0, AVERAGE_BITS)
    }

    /// The sum in its units, if it is a number.
    fn integer(&self) -> Option<BigInt> {
        if self.special != 0 {
            return None;
        }
        let (negative, magnitude, low) = self.canonical();
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Some(BigInt::from_biguint(sign, BigUint::new(magnitude) << (32 * low)))
    }

    /// Bytes on the heap.
    pub fn allocated(&self) -> usize {
        self.limbs.capacity() * size_of::<i64>()
    }
}

/// The bits that an average is computed in below the unit of its sum.
const AVERAGE_BITS: usize = 128;

/// The nearest `f64` to a magnitude in units of 2^(-1074 - `below`), ties to even.
fn nearest(negative: bool, magnitude: &[u32], low: usize, below: usize) -> f64 {
    let length = bit_length(magnitude, low);
    // In units of the last place of the result, which is at least 2^-1074.
    let shift = length.saturating_sub(53).max(below);
    let mut mantissa = round_off(magnitude, low, shift);
    let mut exponent = shift - below + 1;
    if mantissa >> 53 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    let bits = if mantissa < 1 << 52 {
        mantissa
    } else if exponent >= 0x7ff {
        f64::INFINITY.to_bits()
    } else {
        (exponent as u64) << 52 | (mantissa - (1 << 52))
    };
    let value = f64::from_bits(bits);
    if negative { -value } else { value }
}

fn bit_length(magnitude: &[u32], low: usize) -> usize {
    magnitude.last().map_or(0, |top| 32 * (low + magnitude.len()) - top.leading_zeros() as usize)
}

/// A magnitude divided by 2^shift, to the nearest whole number, ties to even. It must fit.
fn round_off(magnitude: &[u32], low: usize, shift: usize) -> u64 {
    let bit = |place: usize| -> u64 {
        let limb = (place / 32).checked_sub(low).and_then(|limb| magnitude.get(limb));
        limb.map_or(0, |limb| u64::from(limb >> (place % 32) & 1))
    };
    let whole = (0..54).fold(0_u64, |whole, place| whole | bit(shift + place) << place);
    if shift == 0 {
        return whole;
    }
    let half = bit(shift - 1) == 1;
    let below = (32 * low..shift - 1).any(|place| bit(place) == 1);
    if half && (below || whole & 1 == 1) { whole + 1 } else { whole }
}

/// `value · 2^exponent`: what lies between two steps of a computation has a greater range than `f64`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled {
    value: f64,
    exponent: i64,
}

impl Scaled {
    pub fn is_zero(self) -> bool {
        self.value == 0.0
    }

    pub fn times(self, other: Scaled) -> Scaled {
        Scaled { value: self.value * other.value, exponent: self.exponent + other.exponent }
    }

    pub fn over(self, other: Scaled) -> Scaled {
        Scaled { value: self.value / other.value, exponent: self.exponent - other.exponent }
    }

    /// The square root of what is not negative.
    pub fn root(self) -> Scaled {
        let odd = self.exponent.rem_euclid(2);
        Scaled { value: (self.value * 2_f64.powi(odd as i32)).sqrt(), exponent: (self.exponent - odd) / 2 }
    }

    pub fn over_counts(self, a: u64, b: u64) -> f64 {
        scaled(self.value / (a as f64 * b as f64), self.exponent)
    }

    pub fn number(self) -> f64 {
        scaled(self.value, self.exponent)
    }
}

/// `n Σxy - Σx Σy`: the square of the count times the covariance of a population, or its variance if both are the same.
/// Exact until it is rounded to 53 bits; not a number if one of them is none.
pub(super) fn comoment(count: u64, products: &Exact, x: &Exact, y: &Exact) -> Scaled {
    let (Some(products), Some(x), Some(y)) = (products.integer(), x.integer(), y.integer()) else {
        return Scaled { value: f64::NAN, exponent: 0 };
    };
    let comoment = BigInt::from(count) * products - x * y;
    let digits = comoment.magnitude().to_u32_digits();
    let shift = bit_length(&digits, 0).saturating_sub(53);
    let magnitude = round_off(&digits, 0, shift) as f64;
    let value = if comoment.sign() == Sign::Minus { -magnitude } else { magnitude };
    Scaled { value, exponent: 2 * UNIT + shift as i64 }
}

/// The variance from the count, the sum and the sum of squares; of a sample or of a population. `None` if there are too few.
pub(super) fn variance(count: u64, sum: &Exact, squares: &Exact, sample: bool) -> Option<f64> {
    covariance(count, squares, sum, sum, sample)
}

/// The covariance from the count, the sum of products and the sums; of a sample or of a population. `None` if there are too few.
pub(super) fn covariance(count: u64, products: &Exact, x: &Exact, y: &Exact, sample: bool) -> Option<f64> {
    let divisor = if sample { count.checked_sub(1)? } else { count };
    if divisor == 0 {
        return None;
    }
    Some(comoment(count, products, x, y).over_counts(count, divisor))
}

/// `value · 2^exponent`, in steps that neither overflow nor underflow before the last.
fn scaled(value: f64, mut exponent: i64) -> f64 {
    let mut value = value;
    while exponent != 0 {
        let step = exponent.clamp(-1000, 1000);
        value *= 2_f64.powi(step as i32);
        exponent -= step;
    }
    value
}
