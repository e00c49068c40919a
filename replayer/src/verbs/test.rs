//! `refold test`: the cases of views, without any service.

use std::time::Instant;

use anyhow::anyhow;

use crate::cases::{self, milliseconds};
use crate::cli::Test;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::record;

/// Runs the cases of the views named, or all.
pub fn run(arguments: &Test, output: &mut Output) -> Result<(), Failure> {
    if let Some(view) = &arguments.record {
        return record::run(view, arguments, output);
    }
    let begun = Instant::now();
    let settings = settings::load(&arguments.settings)?;
    let prepared = cases::load(&settings.schemas, &arguments.views).map_err(Failure::Usage)?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (count, mut failed) = (prepared.len(), 0_usize);
    for case in &prepared {
        let outcome = case.run(seed);
        failed += usize::from(!outcome.is_passed());
        match arguments.json {
            true => output.json(&cases::json(&outcome))?,
            false => output.line(&cases::text(&outcome, case.partition_key()))?,
        }
    }
    let cases = if count == 1 { "case" } else { "cases" };
    let summary =
        format!("{count} {cases}: {} passed, {failed} failed, in {} ms; seed {seed}", count - failed, milliseconds(begun.elapsed()));
    match arguments.json {
        true => complain(&summary),
        false => output.line(&summary)?,
    }
    match failed {
        0 => Ok(()),
        _ => Err(anyhow!("{failed} of {count} {cases} failed").into()),
    }
}
