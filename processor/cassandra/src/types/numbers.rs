//! Numbers of any size, as CQL has them: two's complement, big endian, no byte more than needed.

/// Adds a number, given as two's complement of some width.
pub(super) fn put_varint(bytes: &[u8], wire: &mut Vec<u8>) {
    let sign: u8 = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    let mut rest = bytes;
    // A leading byte can go while it says no more than the sign bit of the next one does.
    while let [first, next, ..] = rest {
        if *first != sign || (next ^ sign) & 0x80 != 0 {
            break;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    wire.extend_from_slice(rest);
}

/// A number as two's complement of `N` bytes; `None` if it does not fit.
pub(super) fn take_varint<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let first = bytes.first()?;
    let fill: u8 = if first & 0x80 != 0 { 0xff } else { 0 };
    let mut number = [fill; N];
    let place = number.get_mut(N.checked_sub(bytes.len())?..)?;
    place.copy_from_slice(bytes);
    Some(number)
}
