//! The one binary, `refold`.

use std::process::ExitCode;

/// Memory that is given up goes back to the system, also that of RocksDB and of the Kafka client.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    refold_replayer::main()
}
