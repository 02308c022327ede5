//! Ctrl-C and SIGTERM: outputs that are not whole are removed, and the command ends with 130.

use super::output::write_stderr;
use qmatmul::file::output;

const CODE: i32 = 130;

/// From now on. What cannot be set up leaves the system's own way to end the command.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            end();
            // Drivers, which are at work, may not survive what an orderly exit calls.
            signal_hook::low_level::exit(CODE);
        }
    });
}

/// From now on. What cannot be set up leaves the system's own way to end the command.
#[cfg(not(unix))]
pub fn watch() {
    let _ = ctrlc::set_handler(|| {
        end();
        std::process::exit(CODE);
    });
}

fn end() {
    output::abandon();
    write_stderr("interrupted");
}
