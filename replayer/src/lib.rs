//! The refold command line: one file per verb.
//!
//! Data goes to stdout, everything else to stderr. The exit status is 0 when it is done, 1 when it failed, 2 for wrong usage, 3 when a
//! gate was not passed.

mod cases;
mod cli;
mod client;
mod commit;
mod failure;
mod output;
mod parts;
mod schemas;
mod settings;
mod verbs;
mod views;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::cli::{Command, Refold, SourceVerb};
use crate::failure::Failure;
use crate::output::Output;
use crate::verbs::{
    apply, audit, check, collect, completions, diff, drop, history, pause, plan, quarantine, replay, resume, rollback, status, switch,
    throttle, up, verify, why,
};

pub use crate::settings::table::SETTINGS;

/// Memory that is given up goes back to the system, also that of RocksDB and of the Kafka client. Here, so that benchmarks have it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs what the arguments of the process say.
pub fn main() -> ExitCode {
    let refold = match Refold::from_arg_matches(&cli::command().get_matches()) {
        Ok(refold) => refold,
        Err(error) => error.exit(),
    };
    let mut output = Output::stdout();
    match run(refold.command, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Changes(message) => output::complain(message),
                failure => output::complain(&format!("error: {failure}")),
            }
            failure.exit_code()
        }
    }
}

fn run(command: Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Up(arguments) => up::run(&arguments, output),
        Command::Process(arguments) => up::process(&arguments, output),
        Command::Serve(arguments) => up::serve(&arguments, output),
        Command::Collect(arguments) => collect::run(&arguments, output),
        Command::Source(SourceVerb::Infer(arguments)) => verbs::source::infer(&arguments, output),
        Command::New(arguments) => verbs::new::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Test(arguments) => verbs::test::run(&arguments, output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Plan(arguments) => plan::run(&arguments, output),
        Command::Apply(arguments) => apply::run(&arguments, output),
        Command::Replay(arguments) => replay::run(&arguments, output),
        Command::Switch(arguments) => switch::run(&arguments, output),
        Command::Diff(arguments) => diff::run(&arguments, output),
        Command::Audit(arguments) => audit::run(&arguments, output),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Why(arguments) => why::run(&arguments, output),
        Command::Rollback(arguments) => rollback::run(&arguments, output),
        Command::Drop(arguments) => drop::run(&arguments, output),
        Command::Pause(arguments) => pause::run(&arguments, output),
        Command::Throttle(arguments) => throttle::run(&arguments, output),
        Command::Resume(arguments) => resume::run(&arguments, output),
        Command::Quarantine(arguments) => quarantine::run(&arguments, output),
        Command::History(arguments) => history::run(&arguments, output),
        Command::Settings => verbs::settings::run(output),
        Command::Completions(arguments) => completions::run(&arguments, output),
    }
}
