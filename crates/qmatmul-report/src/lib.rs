//! What qmatmul's command and its page say of results: rows, verdicts, JSON as `docs/json.md` has it,
//! pictures, and a page about recorded runs. Nothing here reads a clock, a file or a terminal, or
//! waits for a device.
//!
//! ```
//! use qmatmul_report::{Cell, Verdict, column, object, whole};
//!
//! let columns = [column("format", "format"), column("median_us", "µs")];
//! let row = object(&columns, &["Q4_0".into(), Cell::Float(12.5, 1)]);
//! let head = qmatmul_report::head(None, "qmatmul bench".into(), "2026-11-30T18:00:00Z".into());
//! let text = whole(head, vec![row], &Verdict::ok("1 case"));
//! assert!(text.contains("\"median_us\": 12.5") && text.ends_with("}\n"));
//! ```

mod cell;
pub mod chart;
pub mod check;
mod column;
pub mod device;
mod head;
pub mod inspect;
pub mod measured;
pub mod pictures;
pub mod summary;
mod verdict;

pub use cell::Cell;
pub use column::{Column, column, detail, machine, object};
pub use head::{SCHEMA, built, head, whole, without_hidden};
pub use verdict::{NotChecked, Verdict};

use qmatmul::error;

/// `text`, which may hold names from a file, without what moves a terminal's cursor, changes its
/// colours or cannot be seen. Lines stay lines: a name that must not begin one is escaped before.
pub fn plain(text: &str) -> String {
    let lines = text.split('\n').map(|line| error::plain(line).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

/// `1 tensor`, `2 tensors`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `1.5 GiB` for people.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), UNITS[power as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn names_of_files_do_not_reach_the_terminal_as_they_are() {
        assert_eq!(plain("µ\u{7} · \\ \n"), "µ\\u{7} · \\ \n");
        // Text that runs backwards, other ends of lines, and what has no width.
        assert_eq!(plain("\u{202e}gnp.exe\u{2028}\u{200b}"), "\\u{202e}gnp.exe\\u{2028}\\u{200b}");
    }
}
