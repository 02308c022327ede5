//! The pattern tables of `adapter_config.json`.

use crate::file::container::json::Texts;
use crate::file::names::shown;
use regex::bytes::{Regex, RegexSet, RegexSetBuilder};

/// Values by patterns of modules: regular expressions as PEFT takes them, `(.*\.)?(KEY)$` on the
/// whole name, of which the first that matches counts. Look-around and references, which Python
/// has, are not supported: each look-up takes time in proportion to the name.
#[derive(Debug)]
pub(crate) struct Patterns<T> {
    set: RegexSet,
    values: Vec<T>,
}

/// Bytes of all names times bytes of the compiled patterns, at most: what looking all of them up
/// may take.
const MOST_WORK: u64 = 1 << 38;
/// Bytes of compiled patterns, however few the names are.
const MOST_COMPILED: usize = 8 << 20;
/// What a pattern and each of its bytes take at least, compiled.
const LEAST_COMPILED: usize = 16;

impl<T: Copy> Patterns<T> {
    /// Patterns for modules whose names have so many bytes together.
    ///
    /// # Errors
    /// What is wrong with a key, or that they are too many.
    pub fn new(keys: &Texts, values: Vec<T>, name_bytes: usize) -> Result<Self, String> {
        if let Err(twice) = keys.index() {
            return Err(format!("`{}` is given twice", shown(keys.get(twice))));
        }
        let by_work = usize::try_from(MOST_WORK / (name_bytes as u64).max(1)).unwrap_or(usize::MAX);
        let limit = by_work.min(MOST_COMPILED);
        let all = || (0..keys.len()).map(|i| keys.get(i));
        let too_large = || {
            let count = keys.len();
            format!(
                "its {count} patterns take more than {limit} bytes compiled, the limit for {name_bytes} bytes of names"
            )
        };
        let least = |key: &str| LEAST_COMPILED * (1 + key.len());
        if all().map(least).sum::<usize>() > limit {
            return Err(too_large());
        }
        let whole = |key: &str| format!(r"^(?:.*\.)?(?:{key})$");
        let build = RegexSetBuilder::new(all().map(whole))
            .unicode(false)
            .size_limit(limit)
            .dfa_size_limit(MOST_COMPILED)
            .build();
        let set = build.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => too_large(),
            error => {
                let wrong = all()
                    .find_map(|key| Regex::new(&format!("(?-u:{})", whole(key))).err().map(|e| (key, e)));
                let (key, error) = wrong.map_or(("", error), |(key, error)| (key, error));
                format!(
                    "`{}` is no regular expression that is supported: {}",
                    shown(key),
                    shown(&reason(&error))
                )
            }
        })?;
        Ok(Self { set, values })
    }

    /// The value of the first pattern that matches.
    pub fn find(&self, module: &str) -> Option<T> {
        self.set.matches(module.as_bytes()).iter().next().map(|i| self.values[i])
    }
}

/// What the last line of an error says, without the picture above it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of these keys, each with its position, for short names.
    fn table(keys: &[&str]) -> Result<Patterns<usize>, String> {
        let mut texts = Texts::default();
        keys.iter().for_each(|key| texts.push(key).expect("short"));
        Patterns::new(&texts, (0..keys.len()).collect(), 1000)
    }

    fn is(key: &str, module: &str) -> bool {
        table(&[key]).expect("a pattern").find(module).is_some()
    }

    #[test]
    fn patterns_are_names_or_their_ends() {
        assert!(is("q_proj", "model.layers.0.q_proj") && is("q_proj", "q_proj"));
        assert!(
            !is("q_proj", "model.layers.0.xq_proj") && !is("q_proj", "q_proj.x") && !is("q_proj", "proj")
        );
        assert!(is("0.q_proj", "layers.0.q_proj") && !is("0.q_proj", "layers.10.q_proj"));
        assert!(is("0.q_proj", "layers.0xq_proj"), "a dot is any character");
        assert!(!is(r"0\.q_proj", "layers.0xq_proj") && is(r"0\.q_proj$", "layers.0.q_proj"));
        assert!(is("^layers.0.q_proj", "layers.0.q_proj") && !is("^q_proj", "layers.0.q_proj"));
    }

    #[test]
    fn patterns_are_regular_expressions() {
        assert!(is(r"layers\.\d+\.q", "model.layers.31.q") && !is(r"layers\.\d+\.q", "model.layers.x.q"));
        assert!(
            is("q|k", "a.k") && !is("q|k", "a.qk") && !is("a.q|k", "a.qk"),
            "all of it stands behind the dot"
        );
        assert!(is(r"mlp\.down_\w+", "layers.0.mlp.down_proj") && !is(r"mlp\.down_\w+", "mlp.down_"));
        assert!(is(r".*\.[0-3]\.(self_attn|mlp)\.[a-z]_proj", "model.layers.2.mlp.q_proj"));
        assert!(is("layers.[0-9].q", "x.layers.1.q") && !is("(?i:Q)", "qq") && is("(?i:Q)", "a.q"));
        for key in ["(?=q)q", "(?!q)k", r"(q)\1", "(q", "q)", "[", "*"] {
            let text = table(&["k", key]).expect_err(key);
            assert!(text.contains(&format!("`{}` is no regular", shown(key))), "{key}: {text}");
        }
        let twice = table(&["a", "b", "a"]).expect_err("the same").contains("`a` is given twice");
        assert!(twice && table(&["a", "^a", r"\.a", ".a"]).is_ok());
    }

    #[test]
    fn the_first_that_matches_counts() {
        let table = table(&["b", "a$", "a", "x.a", ".*"]).expect("patterns");
        assert_eq!(["x.a", "a", "x.b", "c"].map(|name| table.find(name)), [1, 1, 0, 4].map(Some));
        let table = super::tests::table(&["model.a.q", "q"]).expect("patterns");
        assert_eq!(["model.a.q", "b.q", "z"].map(|name| table.find(name)), [Some(0), Some(1), None]);
    }

    /// A table for each module of a large model, as EVA and AdaLoRA leave them, and far beyond.
    #[test]
    fn tables_are_bounded_by_the_names_that_are_looked_up() {
        let of = |count: usize, names: usize| {
            let keys: Vec<_> =
                (0..count).map(|i| format!("model.layers.{}.self_attn.p{}_proj", i / 7, i % 7)).collect();
            let mut texts = Texts::default();
            keys.iter().for_each(|key| texts.push(key).expect("short"));
            Patterns::new(&texts, (0..count).collect(), names).map(|table| (table, keys))
        };
        let (table, keys) = of(560, 560 * 40).expect("an adapter of 80 layers");
        assert!(keys.iter().enumerate().all(|(i, key)| table.find(key) == Some(i)));
        let text = of(60_000, 100).expect_err("megabytes").to_string();
        assert!(text.contains("60000 patterns") && text.contains("8388608 bytes"), "{text}");
        let text = of(560, 1 << 28).expect_err("long names").to_string();
        assert!(text.contains("more than 1024 bytes") && text.contains("268435456 bytes of names"), "{text}");
        let text = super::tests::table(&["(((a{100}){100}){100})"]).expect_err("a million letters");
        assert!(text.contains("1 patterns take more than"), "{text}");
    }
}
