//! What the command prints: results as tables for people and for programs, and plain lines.

mod results;
mod table;
mod verdict;

pub use results::{Layout, Results, interrupted, now};
pub use table::markdown;

use qmatmul::error::{Error, Result};
use std::io::Write;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Style {
    /// Columns that fit the terminal.
    #[default]
    Table,
    /// A Markdown table.
    Md,
    /// Comma-separated values.
    Csv,
    /// One JSON object.
    Json,
    /// JSON, an object a line, each as soon as it is known.
    Jsonl,
}

/// Writes to standard output without the panic of `print!` when the reader is gone.
pub fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::output("writing", "standard output"))
}

/// Writes a line to standard error; where nobody reads it, it is lost.
pub fn write_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The command line as a shell takes it, without the folder of the program and with `~` for the
/// user's home.
pub fn command_line() -> String {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args = args.iter().map(|arg| without_home(arg));
    let quoted: Vec<_> = args.map(|arg| shell_words::quote(&arg).into_owned()).collect();
    ["qmatmul"].into_iter().map(str::to_owned).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// `text` with `~` for the path of the user's home, wherever it stands: what is sent to others says
/// nobody's name.
pub fn without_home(text: &str) -> String {
    let home = std::env::home_dir().map(|home| home.to_string_lossy().into_owned());
    replace_home(text, home.as_deref())
}

fn replace_home(text: &str, home: Option<&str>) -> String {
    match home.map(|home| home.trim_end_matches(['/', '\\'])) {
        // A home that is the root of the file system would turn every path into another.
        Some(home) if home.len() > 1 => {
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "_-.".contains(c));
            let mut parts = text.split(home);
            let mut out = parts.next().unwrap_or_default().to_owned();
            for rest in parts {
                out += if ends(rest) { "~" } else { home };
                out += rest;
            }
            out
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_not_told() {
        let of = |text| replace_home(text, Some("/home/ada/"));
        assert_eq!(of("--input=/home/ada/m.gguf"), "--input=~/m.gguf");
        assert_eq!(of("/home/adam/m.gguf /home/ada"), "/home/adam/m.gguf ~");
        assert_eq!(replace_home("/tmp/m", Some("/")), "/tmp/m");
        assert_eq!(replace_home("/tmp/m", None), "/tmp/m");
    }
}
