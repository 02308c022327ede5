//! The last word of a verb, printed.

use anstyle::{AnsiColor, Style};
use qmatmul::error::{Error, Result};
use qmatmul_report::Verdict;
use std::io::Write;

/// The line, its first word in colour.
fn coloured(verdict: &Verdict) -> String {
    let colour = match verdict.word() {
        "WRONG" => AnsiColor::Red,
        "OK" => AnsiColor::Green,
        _ => AnsiColor::Yellow,
    };
    let style = Style::new().bold().fg_color(Some(colour.into()));
    let line = verdict.line();
    let (word, rest) = line.split_at(verdict.word().len());
    format!("{style}{word}{style:#}{rest}\n")
}

/// On standard output, in colour where that is a terminal that wants some (`NO_COLOR`).
pub fn print(verdict: &Verdict) -> Result<()> {
    let mut stream = anstream::stdout();
    let written = stream.write_all(coloured(verdict).as_bytes()).and_then(|()| stream.flush());
    written.map_err(Error::output("writing", "standard output"))
}

/// On standard error, where standard output has only data.
pub fn complain(verdict: &Verdict) {
    let _ = anstream::stderr().write_all(coloured(verdict).as_bytes());
}
