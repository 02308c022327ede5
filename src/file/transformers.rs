//! Which modules of a model transformers loads as quantized by bitsandbytes: its plain linear
//! layers, by the `model_type` of the model's `config.json`.

use crate::error::{Error, Result};
use crate::file::Model;
use crate::file::scheme::conv1d;

/// The `model_type` of a model's `config.json`.
pub(crate) fn model_type(model: &Model) -> Option<&str> {
    model.config()?.get("model_type")?.as_str()
}

/// One row for each model type. Its fields, between bars:
///
/// 1. the type;
/// 2. names that may stand before the modules below, as `model.layers` for `layers`;
/// 3. the modules that are quantized: `*` is a number, `{a,b}` are alternatives;
/// 4. the modules that transformers would quantize, and that have no weight of their own in the
///    file if they share it with an embedding: the settings must name them;
/// 5. for models whose modules have other names in memory than in the file: all other matrices.
///    The settings could not name one that is missing here.
const MODELS: &str = include_str!("transformers.txt");

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Architecture {
    bases: Vec<&'static str>,
    linear: Vec<String>,
    /// Modules that share their weight with an embedding.
    pub heads: Vec<&'static str>,
    others: Option<Vec<String>>,
}

impl Architecture {
    /// The row of a type; `None` if it is not known what transformers makes of it.
    pub fn of(model_type: &str) -> Option<Self> {
        let rows = MODELS.lines().filter(|line| !line.starts_with('#'));
        let mut rows = rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        match &*rows.find(|fields| fields.first() == Some(&model_type))? {
            [_, bases, linear, heads, others @ ..] => Some(Self {
                bases: bases.split_whitespace().collect(),
                linear: expanded(linear),
                heads: heads.split_whitespace().collect(),
                others: others.first().map(|others| expanded(others)),
            }),
            _ => None,
        }
    }

    /// The row for a model.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none.
    pub fn of_model(model: &Model) -> Result<Self> {
        let path = model.path().display();
        let Some(name) = model_type(model) else {
            return Err(Error::Argument(format!(
                "{path}: no config.json beside it names a model_type, so that transformers does not open it; \
                 --bare encodes its matrices for qmatmul only"
            )));
        };
        let refuse = |what: String| Err(Error::Argument(format!("{path}: {what}")));
        if conv1d::MODELS.contains(&name) {
            return refuse(format!("{name} models keep their layers transposed (Conv1D)"));
        }
        Self::of(name).map_or_else(
            || refuse(format!("which layers of a `{name}` model transformers quantizes is not known")),
            Ok,
        )
    }

    /// True if transformers loads the module of this name as quantized.
    pub fn is_linear(&self, module: &str) -> bool {
        self.matches(&self.linear, module)
    }

    /// True if the module is quantized, or known not to be, or can be named in the settings.
    pub fn knows(&self, module: &str) -> bool {
        self.others.as_ref().is_none_or(|others| self.is_linear(module) || self.matches(others, module))
    }

    fn matches(&self, patterns: &[String], module: &str) -> bool {
        let bases = self.bases.iter().filter_map(|base| module.strip_prefix(base)?.strip_prefix('.'));
        let mut names = bases.chain([module]);
        names.any(|name| patterns.iter().any(|pattern| is_match(pattern, name)))
    }
}

/// Compares names part by part; `*` at the end of one is any number.
fn is_match(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if is_part(pattern, part) => {}
            _ => return false,
        }
    }
}

fn is_part(pattern: &str, part: &str) -> bool {
    match pattern.strip_suffix('*').map(|stem| part.strip_prefix(stem)) {
        Some(Some(number)) => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        Some(None) => false,
        None => pattern == part,
    }
}

/// All that a text with alternatives stands for: `a{b,c.{d,e}}` for `ab`, `ac.d` and `ac.e`.
fn expanded(text: &str) -> Vec<String> {
    let parts = alternatives(text).into_iter().filter(|part| !part.is_empty());
    parts.flat_map(expanded_one).collect()
}

/// [`expanded`] of one alternative: its first braces times what follows.
fn expanded_one(text: &str) -> Vec<String> {
    let Some(open) = text.find('{') else { return vec![text.into()] };
    let close = open + closing(&text[open..]);
    let (inner, rest) = (&text[open + 1..close], &text[close + 1..]);
    let rests = expanded_one(rest);
    let inner = alternatives(inner).into_iter().flat_map(expanded_one);
    inner.flat_map(|one| rests.iter().map(move |rest| format!("{}{one}{rest}", &text[..open]))).collect()
}

/// Where the brace that opens a text closes.
fn closing(text: &str) -> usize {
    let mut depth = 0usize;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    text.len()
}

/// The parts between the commas that stand in no braces.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (vec![], 0usize, 0);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_are_expanded() {
        assert_eq!(expanded("a{b,c.{d,e}}f,g"), ["abf", "ac.df", "ac.ef", "g"]);
        assert_eq!(expanded("{q,k}{_a,}_proj"), ["q_a_proj", "q_proj", "k_a_proj", "k_proj"]);
        assert_eq!(expanded(""), [""; 0]);
    }

    #[test]
    fn numbers_stand_for_stars() {
        assert!(is_match("layers.*.mlp.up", "layers.17.mlp.up"));
        assert!(is_match("experts.expert_*.fc1", "experts.expert_127.fc1"));
        assert!(!is_match("experts.expert_*.fc1", "experts.expert_.fc1"));
        for name in ["layers.x.mlp.up", "layers.1.mlp.up.a", "layers.1.mlp", "a.layers.1.mlp.up"] {
            assert!(!is_match("layers.*.mlp.up", name), "{name}");
        }
    }

    /// Every row has its fields, balanced braces and a type of its own, in order.
    #[test]
    fn the_table_is_sound() {
        let rows: Vec<_> = MODELS.lines().filter(|line| !line.starts_with('#')).collect();
        let names: Vec<_> = rows.iter().map(|row| row.split('|').next().unwrap_or_default().trim()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for (row, name) in rows.iter().zip(names) {
            let fields = row.split('|').count();
            assert!((4..=5).contains(&fields), "{row}");
            assert_eq!(row.matches('{').count(), row.matches('}').count(), "{row}");
            let known = Architecture::of(name).expect("a row");
            let all = || known.linear.iter().chain(known.others.iter().flatten());
            let is_sound = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
            assert!(all().all(|pattern| pattern.chars().all(is_sound)), "{known:?}");
            assert!(known.linear.iter().all(|linear| !known.heads.contains(&&**linear)), "{known:?}");
        }
    }
}
