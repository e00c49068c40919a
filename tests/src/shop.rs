//! Orders of the second application, `tests/applications/shop`, as JSON lines for its source `orders`.

/// When the first order is placed: 2026-11-02T00:00:00Z, in microseconds.
pub const FIRST_ORDER_US: i64 = 1_793_577_600_000_000;

const COUNTRIES: [&str; 10] = ["AT", "BR", "CZ", "DE", "EG", "IN", "JP", "KE", "NZ", "US"];

/// Orders without end, decided by `seed`: about one in 20 seconds of event time, one in 50 up to half an hour late, a third with a discount.
pub fn orders(seed: u64) -> impl Iterator<Item = String> {
    (0_u64..).map(move |index| order(seed, index))
}

fn order(seed: u64, index: u64) -> String {
    let mut state = seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut below = |bound: u64| draw(&mut state) % bound;
    let late_us = if below(50) == 0 { below(1_800_000_000) } else { 0 };
    let placed_at = FIRST_ORDER_US + (index * 20_000_000 + below(20_000_000)) as i64 - late_us as i64;
    // The smaller of two draws: few products and customers bring most orders.
    let customer = 1 + below(5000).min(below(5000));
    let product = 1 + below(200).min(below(200));
    let country = COUNTRIES.get(below(10) as usize).copied().unwrap_or("US");
    let quantity = 1 + below(12).min(below(12));
    let cents = quantity * (199 + product * 37);
    let discount = if below(3) == 0 { format!(",\"discount\":\"{}\"", decimal(cents * below(40) / 100)) } else { String::new() };
    format!(
        "{{\"order_id\":{index},\"customer\":{customer},\"product\":{product},\"country\":\"{country}\",\
         \"amount\":\"{}\",\"quantity\":{quantity}{discount},\"placed_at\":{placed_at}}}",
        decimal(cents)
    )
}

fn decimal(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use refold_collector::{Encoder, encode_ndjson};

    #[test]
    fn orders_are_events_of_the_shops_source() {
        let source = &refold_processor::source::load_sources("applications/shop".as_ref()).unwrap()["orders"];
        let lines: Vec<String> = orders(1).take(2000).collect();
        let (records, bad) = encode_ndjson(&Encoder::new(source, None).unwrap(), lines.join("\n").as_bytes());
        assert_eq!((records.len(), bad), (2000, vec![]));
        let discounts = lines.iter().filter(|line| line.contains("discount")).count();
        assert!((550..800).contains(&discounts), "{discounts} discounts");
        assert_eq!(lines, orders(1).take(2000).collect::<Vec<_>>());
        assert_ne!(lines[0], orders(2).next().unwrap());
    }
}
