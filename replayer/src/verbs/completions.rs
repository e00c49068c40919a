//! `refold completions`: shell completions.

use clap::CommandFactory;

use crate::cli::{Completions, Refold};
use crate::failure::Failure;
use crate::output::Output;

/// Writes the completions of a shell.
pub fn run(arguments: &Completions, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Refold::command(), "refold", &mut script);
    Ok(output.bytes(&script)?)
}
