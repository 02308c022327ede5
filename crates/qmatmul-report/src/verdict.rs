//! The last word of a verb.

use crate::plain;
use serde_json::{Value, json};

/// What a person wants to know in the end, in one line that can be pasted into an issue.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// True if a check failed.
    pub is_wrong: bool,
    /// True if the user ended the verb before its end.
    pub is_interrupted: bool,
    /// What was found, in at most 92 characters.
    pub text: String,
    /// Results that were compared with the reference; none where a verb compares nothing.
    pub checks: Option<usize>,
    /// Tensors that were looked at.
    pub tensors: Option<usize>,
    /// What was not checked, or not all of it.
    pub not_checked: Vec<NotChecked>,
}

/// Something that was not checked.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NotChecked {
    /// Its name.
    pub tensor: String,
    /// Why it was not.
    pub reason: String,
}

/// Characters of the line, with its first word.
const LONGEST: usize = 100;

impl Verdict {
    /// Of a verb that did what it should.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// As a program reads it.
    pub fn json(&self) -> Value {
        json!({
            "ok": !self.is_wrong && !self.is_interrupted,
            "interrupted": self.is_interrupted,
            "text": self.text,
            "checks": self.checks,
            "tensors": self.tensors,
            "not_checked": self.not_checked,
        })
    }

    /// The first word of the line.
    pub fn word(&self) -> &'static str {
        match (self.is_wrong, self.is_interrupted) {
            (true, _) => "WRONG",
            (false, true) => "INTERRUPTED",
            (false, false) => "OK",
        }
    }

    /// The line, without colours.
    pub fn line(&self) -> String {
        let line = format!("{} {}", self.word(), plain(&self.text).replace('\n', " "));
        match line.char_indices().nth(LONGEST) {
            None => line,
            Some(_) => line.chars().take(LONGEST - 1).chain(['…']).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_short_line() {
        let long = Verdict::ok("a\nb\u{1b}[31m ".repeat(40));
        assert_eq!(long.line().chars().count(), 100);
        assert!(long.line().starts_with("OK a b\\u{1b}[31m") && long.line().ends_with('…'));
        let wrong = Verdict { is_wrong: true, is_interrupted: true, ..Verdict::ok("3 of 4") };
        assert_eq!(wrong.line(), "WRONG 3 of 4");
        assert_eq!(Verdict { is_wrong: false, ..wrong }.line(), "INTERRUPTED 3 of 4");
    }

    #[test]
    fn a_program_reads_whether_all_is_right() {
        let of = |is_wrong, is_interrupted| {
            Verdict { is_wrong, is_interrupted, ..Verdict::default() }.json()["ok"].clone()
        };
        assert_eq!([of(false, false), of(true, false), of(false, true)], [true, false, false]);
    }
}
