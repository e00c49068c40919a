//! Ctrl-C and SIGTERM.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::output::complain;

/// The exit status of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// What is left to be written may wait for a log or a store that is unavailable. Orchestrators kill after half a minute.
const ENDS_WITHIN: Duration = Duration::from_secs(25);

/// Signals closer together than this are one: some send it to a process and to its group.
const ONE_SIGNAL: Duration = Duration::from_millis(200);

/// Calls `first` at the first signal; the second one ends the process at once, and so does time.
pub fn watch(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered before this returns, so that no signal is missed from here on.
    let entered = runtime.enter();
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(entered);
    let body = move || {
        runtime.block_on(async move {
            let mut first = Some(first);
            let mut last: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                    () = tokio::time::sleep(ENDS_WITHIN), if first.is_none() => {
                        let seconds = ENDS_WITHIN.as_secs();
                        complain(&format!("not ended within {seconds} s, so what it waits for is unavailable; ended now, what was committed is safe"));
                        std::process::exit(INTERRUPTED);
                    }
                }
                if last.is_some_and(|last| last.elapsed() < ONE_SIGNAL) {
                    continue;
                }
                match first.take() {
                    Some(first) => first(),
                    None => {
                        complain("ended at once; what was committed is safe");
                        std::process::exit(INTERRUPTED);
                    }
                }
                // Not before: what the first one does may take longer than the second copy needs to arrive.
                last = Some(Instant::now());
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(body)?;
    Ok(())
}
