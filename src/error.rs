//! What can go wrong: what was being done, to which file and tensor, what was wanted, what was
//! found.

use std::fmt::{self, Write};
use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
///
/// ```
/// fn tokens(text: &str) -> qmatmul::Result<usize> {
///     text.parse().map_err(|e| qmatmul::Error::Argument(format!("tokens `{text}`: {e}")))
/// }
/// assert_eq!(tokens("8").ok(), Some(8));
/// assert!(tokens("many").unwrap_err().to_string().starts_with("tokens `many`: "));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this crate. Each message names the thing and, where there are two, both
/// numbers. Names come from files: control characters in them are printed as escapes.
///
/// ```
/// use qmatmul::{Error, PackedTensor, format};
///
/// let error = PackedTensor::new("w", format::Q4_0, 2, 64, vec![0u8; 71]).unwrap_err();
/// assert!(matches!(error, Error::Shape { .. }));
/// assert_eq!(
///     error.to_string(),
///     "tensor `w`: 2 x 64 weights in Q4_0: wanted 72 bytes, got 71 bytes"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{doing} `{}`: {source}", plain(&path.display().to_string()))]
    Io {
        /// The operation, as in "opening".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An output cannot be written: its folder is missing or not writable, or the disk is full.
    #[error("{doing} `{}`: {source}", plain(&path.display().to_string()))]
    Output {
        /// The operation, as in "creating".
        doing: &'static str,
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes of a file contradict its format.
    #[error("{}: {} at byte {offset}: {}", plain(file), plain(what), plain(problem))]
    Malformed {
        /// The file.
        file: String,
        /// The part of it: "tensor `x`", "key `y`", "header".
        what: String,
        /// Offset of that part from the start of the file.
        offset: u64,
        /// What is wrong, with the numbers.
        problem: String,
    },
    /// A tensor is stored in a format that this version cannot compute with.
    #[error(
        "tensor `{}` is stored as {}, which is not supported; supported: {supported}",
        plain(tensor),
        plain(format)
    )]
    UnsupportedFormat {
        /// The tensor.
        tensor: String,
        /// The format's name, or its number where it has none.
        format: String,
        /// The formats that are.
        supported: String,
    },
    /// A name is not in the file.
    #[error("{} holds no {what} `{}`{}", plain(file), plain(name), plain(hint))]
    NotFound {
        /// The file.
        file: String,
        /// What was looked for, as in "tensor".
        what: &'static str,
        /// Its name.
        name: String,
        /// Empty, or a sentence that begins with "; ".
        hint: String,
    },
    /// Two shapes or lengths do not fit together.
    #[error("{}: wanted {}, got {}", plain(what), plain(wanted), plain(got))]
    Shape {
        /// The tensor or argument, and the operation.
        what: String,
        /// What would have fitted.
        wanted: String,
        /// What was there.
        got: String,
    },
    /// NaN or infinity where only numbers make sense.
    #[error("{} holds {count} non-finite value(s), the first at index {first}", plain(what))]
    NonFinite {
        /// The tensor or argument.
        what: String,
        /// How many values are not finite.
        count: u64,
        /// Index of the first: the element of an activation, the row of a weight.
        first: u64,
    },
    /// An argument makes no sense by itself.
    #[error("{}", plain(.0))]
    Argument(String),
    /// No GPU, not even a software one, or none that was asked for.
    #[error("{}", plain(.0))]
    NoAdapter(String),
    /// The adapter lacks what the request needs.
    #[error("adapter `{}` lacks {}", plain(adapter), plain(feature))]
    MissingFeature {
        /// The adapter's name.
        adapter: String,
        /// The feature's name.
        feature: String,
    },
    /// The request is larger than the device allows.
    #[error("{} needs {wanted}, the device allows {limit}", plain(what))]
    LimitExceeded {
        /// What was asked for, and for which tensor or shader.
        what: String,
        /// How much of it.
        wanted: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The device could not hold an allocation.
    #[error("{}: {}", plain(doing), no_room(*bytes, *left))]
    OutOfMemory {
        /// What the memory was for.
        doing: String,
        /// The size of the request.
        bytes: u64,
        /// What was left, where [`Options::memory_limit`](crate::Options::memory_limit) refused it;
        /// the device does not say.
        left: Option<u64>,
    },
    /// The device did not end its work in time. It may still do so: later calls wait again.
    #[error("{}: no answer for {seconds} s", plain(doing))]
    TimedOut {
        /// What was being done.
        doing: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The device went away; every later call on this runtime gives the same error.
    #[error("the device was lost: {}", plain(.0))]
    DeviceLost(String),
    /// The driver or wgpu refused a call.
    #[error("{}: {message}", plain(doing))]
    Gpu {
        /// What was being done.
        doing: String,
        /// What the driver or wgpu said.
        message: String,
    },
}

fn no_room(bytes: u64, left: Option<u64>) -> String {
    match left {
        Some(left) => format!("wanted {bytes} bytes, {left} are left of the memory limit"),
        None => format!("the device has no room for {bytes} bytes"),
    }
}

impl Error {
    /// An [`Error::Shape`] from anything printable.
    pub fn shape(what: impl Into<String>, wanted: impl ToString, got: impl ToString) -> Self {
        Self::Shape { what: what.into(), wanted: wanted.to_string(), got: got.to_string() }
    }

    /// Turns an [`std::io::Error`] into one that names the file.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// The same of an output.
    pub fn output(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Output { doing, path, source }
    }
}

/// Text that may come from a file, fit for a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(&'a str);

/// `text` with what moves a terminal's cursor, changes its colours or cannot be seen as escapes.
pub fn plain(text: &str) -> Plain<'_> {
    Plain(text)
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was escaped before stays as it is.
        let mut chars = self.0.chars();
        chars.try_for_each(|c| {
            if c == '\\' { f.write_char(c) } else { escape(c).try_for_each(|c| f.write_char(c)) }
        })
    }
}

/// Escapes what `{:?}` would, quotes excepted.
pub(crate) fn escape(c: char) -> impl Iterator<Item = char> {
    let keep = matches!(c, '"' | '\'');
    let escaped = (!keep).then(|| c.escape_debug()).into_iter().flatten();
    escaped.chain(keep.then_some(c))
}

/// A name from a file, fit for a terminal: control characters escaped, the middle of a very long
/// one left out.
pub fn shown(name: &str) -> String {
    clipped(name, 120)
}

/// `text` with control characters escaped and at most about `limit` characters.
pub(crate) fn clipped(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.chars().flat_map(escape).collect();
    }
    let head = text.chars().take(limit / 2).flat_map(escape).collect::<String>();
    let mut tail: Vec<char> = text.chars().rev().take(limit / 4).collect();
    tail.reverse();
    format!("{head}…{}", tail.into_iter().flat_map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_fit_for_a_terminal() {
        let hostile = "a\u{1b}[2J\u{202e}\n";
        let error = Error::shape(hostile, hostile, hostile);
        assert_eq!(error.to_string().matches("a\\u{1b}[2J\\u{202e}\\n").count(), 3, "{error}");
        // Once is enough.
        assert_eq!(Error::Argument(error.to_string()).to_string(), error.to_string());
        let io = Error::io("opening", hostile)(std::io::ErrorKind::NotFound.into());
        assert!(!io.to_string().chars().any(char::is_control), "{io}");
    }

    #[test]
    fn hostile_names_are_printed_short_and_plain() {
        assert_eq!(shown("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        let long = "é".repeat(100_000);
        assert!(shown(&long).chars().count() < 120);
    }
}
