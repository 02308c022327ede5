//! Ctrl-C and SIGTERM: outputs that are not whole are removed, and the command ends with 130: at
//! once, or where a verb can print what it knows, at its next step.

use super::output::{interrupted, write_stderr};
use qmatmul::file::output;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code.
pub const CODE: u8 = 130;

/// True where a verb looks at [`is_requested`] at each of its steps.
static IN_STEPS: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on the first signal only asks for the end; the second one does not wait for it.
pub fn stop_at_steps() {
    IN_STEPS.store(true, Ordering::Relaxed);
}

/// True if the user wants no further step.
pub fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// From now on. What cannot be set up leaves the system's own way to end the command.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if is_last() {
                // Drivers, which are at work, may not survive what an orderly exit calls.
                signal_hook::low_level::exit(CODE.into());
            }
        }
    });
}

/// From now on. What cannot be set up leaves the system's own way to end the command.
#[cfg(not(unix))]
pub fn watch() {
    let _ = ctrlc::set_handler(|| {
        if is_last() {
            std::process::exit(CODE.into());
        }
    });
}

/// Takes a signal: true if the command ends now, with nothing left of its outputs.
fn is_last() -> bool {
    if IN_STEPS.load(Ordering::Relaxed) && !REQUESTED.swap(true, Ordering::Relaxed) {
        write_stderr("stopping after this step; Ctrl-C once more does not wait for it");
        return false;
    }
    output::abandon();
    interrupted();
    write_stderr("interrupted");
    true
}
