//! Progress bars, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// A bar over `steps` steps with the time that went by and an estimate of what is left, hidden if
/// standard error is not a terminal or the user wants quiet.
pub fn bar(steps: u64, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:24} {pos}/{len} {elapsed}, {eta} left {prefix}{wide_msg}";
    let style = ProgressStyle::with_template(style).expect("the template is constant");
    ProgressBar::new(steps).with_style(style)
}

/// Says on the bar how many steps went wrong so far.
pub fn failures(bar: &ProgressBar, count: usize) {
    if count > 0 {
        bar.set_prefix(format!("{count} WRONG "));
    }
}
