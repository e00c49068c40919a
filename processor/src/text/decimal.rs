//! Decimals: text → unscaled integer → the fewest bytes of two's complement, exactly or not at all.

/// The most digits that an `i128` always holds.
pub const MAX_PRECISION: usize = 38;

/// A decimal number: its digits, times ten to this power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The digits.
    pub digits: i128,
    /// The power of ten.
    pub power: i64,
}

/// A decimal number's text; `Err` says why it is none, or cannot be held exactly.
pub fn split(text: &str) -> Result<Decimal, &'static str> {
    const NOT_A_NUMBER: &str = "is not a decimal number";
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NOT_A_NUMBER)?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = || whole.bytes().chain(fraction.bytes());
    if all_digits().next().is_none() || !all_digits().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    // Zeros at the end carry nothing: 1.500 has the scale 1.
    let trailing_zeros = all_digits().rev().take_while(|byte| *byte == b'0').count();
    let kept = whole.len() + fraction.len() - trailing_zeros;
    let mut unscaled: i128 = 0;
    for byte in all_digits().take(kept) {
        unscaled = unscaled.checked_mul(10).and_then(|n| n.checked_add(i128::from(byte - b'0'))).ok_or("has too many digits")?;
    }
    let power = i64::from(exponent) - fraction.len() as i64 + trailing_zeros as i64;
    Ok(Decimal { digits: if negative { -unscaled } else { unscaled }, power })
}

/// The unscaled integer of a decimal number's text at `scale`; `Err` says why it cannot be held exactly.
pub fn parse(text: &str, precision: usize, scale: usize) -> Result<i128, &'static str> {
    let Decimal { digits, power } = split(text)?;
    if digits == 0 {
        return Ok(0);
    }
    let power = power + scale as i64;
    if power < 0 {
        return Err("has more decimal places than its scale");
    }
    let mut unscaled = digits;
    for _ in 0..power {
        unscaled = unscaled.checked_mul(10).ok_or("has too many digits")?;
    }
    let limit = 10_i128.checked_pow(precision as u32).unwrap_or(i128::MAX);
    if unscaled.abs() >= limit {
        return Err("has more digits than its precision");
    }
    Ok(unscaled)
}

/// Where the fewest bytes that hold the number begin in its sixteen.
pub fn first_needed_byte(bytes: &[u8; 16]) -> usize {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
    let repeated = bytes.iter().take(15).take_while(|byte| **byte == sign).count();
    // The first kept byte must carry the sign itself.
    let next_has_sign = bytes.get(repeated).is_some_and(|byte| byte & 0x80 == sign & 0x80);
    if next_has_sign { repeated } else { repeated.saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_or_refused() {
        assert_eq!(parse("12.34", 12, 2), Ok(1234));
        assert_eq!(parse("-0.5", 12, 2), Ok(-50));
        assert_eq!(parse("7", 12, 2), Ok(700));
        assert_eq!(parse("1.500", 12, 2), Ok(150));
        assert_eq!(parse("1.5e3", 12, 2), Ok(150_000));
        assert_eq!(parse("0.000", 4, 2), Ok(0));
        assert_eq!(parse("1.234", 12, 2), Err("has more decimal places than its scale"));
        assert_eq!(parse("100.00", 4, 2), Err("has more digits than its precision"));
        assert_eq!(parse("99.99", 4, 2), Ok(9999));
        for text in ["", "-", ".", "1.2.3", "0x10", "1e", "NaN"] {
            assert_eq!(parse(text, 12, 2), Err("is not a decimal number"), "{text}");
        }
        assert!(parse("1e2000000000", 12, 2).is_err());
    }

    #[test]
    fn the_fewest_bytes_keep_the_sign() {
        for (number, bytes) in [(0_i128, 1), (127, 1), (128, 2), (-128, 1), (-129, 2), (32_767, 2), (32_768, 3), (-1, 1), (i128::MIN, 16)] {
            assert_eq!(16 - first_needed_byte(&number.to_be_bytes()), bytes, "{number}");
        }
    }
}
