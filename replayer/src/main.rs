//! The one binary, `refold`.

use std::process::ExitCode;

fn main() -> ExitCode {
    refold_replayer::main()
}
