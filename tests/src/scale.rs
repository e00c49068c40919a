//! How long proofs run: `REFOLD_PROVE_SCALE=full` (`make prove`) runs the counts that the documentation names, anything else (`make test`) a short form.

/// `full` at full scale, `short` otherwise.
pub fn pick<T>(short: T, full: T) -> T {
    match std::env::var("REFOLD_PROVE_SCALE").as_deref() {
        Ok("full") => full,
        _ => short,
    }
}
