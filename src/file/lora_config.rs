//! `adapter_config.json` of PEFT: ranks and scales by module, and what is refused.

use super::checkpoint::json_error;
use super::folder::{Folder, malformed};
use super::json;
use super::names::shown;
use crate::error::Result;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The file's name.
pub(super) const NAME: &str = "adapter_config.json";
/// The longest configuration.
const MAX_CONFIG: u64 = 1 << 20;
/// Bound of patterns times modules, which each look-up of a name goes through: more than a rank for each of 10,000 modules.
const MAX_MATCHES: usize = 1 << 27;

/// What must be off, and why. Off is: absent, null, false, "none", or empty.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "DoRA, which rescales the weight by rows, is not supported"),
    ("fan_in_fan_out", "weights that lie transposed are not supported"),
    ("modules_to_save", "modules saved whole are not supported"),
    ("lora_bias", "biases in adapters are not supported"),
    ("bias", "biases in adapters are not supported"),
    ("layer_replication", "layers that are repeated are not supported"),
    ("target_parameters", "adapters of parameters that are no modules are not supported"),
    ("trainable_token_indices", "adapters of embeddings are not supported"),
    ("alora_invocation_tokens", "adapters that only some tokens activate are not supported"),
    ("use_qalora", "QA-LoRA is not supported"),
    ("use_bdlora", "adapters of block-diagonal matrices are not supported"),
    ("arrow_config", "Arrow routing is not supported"),
    ("kasa_config", "KaSA is not supported"),
    ("monteclora_config", "MonteCLoRA is not supported"),
];

/// Ways to begin the training that leave the base weights as they are.
const INITS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// What decides about ranks and scales.
#[derive(Debug)]
pub(super) struct Config {
    text: Text,
    rank: usize,
    alpha: f64,
    rank_stabilized: bool,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

impl Config {
    pub fn open(folder: &Folder) -> Result<Self> {
        let text = Text::open(folder)?;
        text.check_kind()?;
        text.check_refused()?;
        Ok(Self {
            rank: text.number("r", rank, "a whole number above 0")?,
            alpha: text.number("lora_alpha", Value::as_f64, "a number")?,
            rank_stabilized: text.flag("use_rslora")?,
            ranks: text.patterns("rank_pattern", rank, "a whole number above 0")?,
            alphas: text.patterns("alpha_pattern", Value::as_f64, "a number")?,
            text,
        })
    }

    /// Refuses more patterns than can be looked through for so many modules.
    pub fn check_patterns(&self, modules: usize) -> Result<()> {
        let patterns = self.ranks.len() + self.alphas.len();
        match patterns.saturating_mul(modules) > MAX_MATCHES {
            true => {
                let problem = format!("{patterns} patterns are too many for {modules} modules");
                Err(malformed(&self.text.path, "patterns", 0, problem))
            }
            false => Ok(()),
        }
    }

    /// r of a module.
    pub fn rank(&self, module: &str) -> usize {
        first_match(&self.ranks, module).unwrap_or(self.rank)
    }

    /// s of a module of this rank.
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        let alpha = first_match(&self.alphas, module).unwrap_or(self.alpha);
        alpha / if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 }
    }
}

fn rank(value: &Value) -> Option<usize> {
    let rank = value.as_u64().and_then(|r| u32::try_from(r).ok());
    rank.filter(|r| *r > 0).map(|r| r as usize)
}

/// The file, and its one object.
#[derive(Debug)]
struct Text {
    path: PathBuf,
    text: String,
    keys: Map<String, Value>,
}

impl Text {
    fn open(folder: &Folder) -> Result<Self> {
        let (path, text) = (folder.join(NAME), folder.text(NAME, MAX_CONFIG)?);
        let keys = serde_json::from_str(&text).map_err(|e| json_error(&path, &text, &e))?;
        Ok(Self { path, text, keys })
    }

    fn malformed(&self, key: &str, problem: String) -> crate::Error {
        let first = self.keys.get(key).and_then(|v| v.to_string().chars().next());
        let offset = first.and_then(|first| json::locate(&self.text, key, first)).unwrap_or(0);
        malformed(&self.path, &format!("key `{key}`"), offset, problem)
    }

    fn check_kind(&self) -> Result<()> {
        match self.keys.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => Ok(()),
            Some(other) => {
                Err(self.malformed("peft_type", format!("{} is not supported, LORA is", shown(other))))
            }
            None => Err(self.malformed("peft_type", "it is missing or no text".into())),
        }
    }

    /// Refuses what would make the product another.
    fn check_refused(&self) -> Result<()> {
        for (key, why) in REFUSED {
            if !self.keys.get(*key).is_none_or(is_off) {
                return Err(self.malformed(key, (*why).into()));
            }
        }
        match self.keys.get("init_lora_weights").and_then(Value::as_str) {
            Some(init) if !INITS.contains(&init) => {
                let problem = format!("{} changes the base weights, which is not supported", shown(init));
                Err(self.malformed("init_lora_weights", problem))
            }
            _ => Ok(()),
        }
    }

    fn number<T>(&self, key: &str, read: fn(&Value) -> Option<T>, wanted: &str) -> Result<T> {
        let Some(value) = self.keys.get(key) else {
            return Err(self.malformed(key, "it is missing".into()));
        };
        read(value)
            .ok_or_else(|| self.malformed(key, format!("wanted {wanted}, got {}", shown(&value.to_string()))))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.malformed(key, format!("wanted true or false, got {}", shown(&other.to_string()))))
            }
        }
    }

    fn patterns<T>(
        &self,
        key: &str,
        read: fn(&Value) -> Option<T>,
        wanted: &str,
    ) -> Result<Vec<(Pattern, T)>> {
        let one = |(pattern, value): (&String, &Value)| {
            let parsed = Pattern::parse(pattern).ok_or_else(|| {
                let problem = format!(
                    "`{}` is a regular expression; names, `.`, and `^` before and `$` behind them are supported",
                    shown(pattern)
                );
                self.malformed(key, problem)
            })?;
            let value = read(value).ok_or_else(|| {
                let got = shown(&value.to_string());
                self.malformed(key, format!("`{}`: wanted {wanted}, got {got}", shown(pattern)))
            })?;
            Ok((parsed, value))
        };
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(vec![]),
            Some(Value::Object(map)) => map.iter().map(one).collect(),
            Some(other) => {
                Err(self.malformed(key, format!("wanted an object, got {}", shown(&other.to_string()))))
            }
        }
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

fn first_match<T: Copy>(patterns: &[(Pattern, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.matches(module)).map(|(_, value)| *value)
}

/// A key of a pattern table. PEFT takes it for a regular expression, `(^|.*\.)(key)$`, and the first that matches counts, in
/// each table by itself; here it is a name of modules, or the end of one from a dot on.
#[derive(Debug)]
struct Pattern {
    /// Nothing may stand before it.
    whole: bool,
    /// In reverse; `None` stands for any character, as `.` does.
    reversed: Vec<Option<char>>,
}

impl Pattern {
    /// `None` if the key is more of a regular expression than that.
    fn parse(key: &str) -> Option<Self> {
        let (whole, key) = key.strip_prefix('^').map_or((false, key), |key| (true, key));
        let mut chars = key.strip_suffix('$').unwrap_or(key).chars();
        let mut reversed = vec![];
        while let Some(c) = chars.next() {
            reversed.push(match c {
                '.' => None,
                '\\' => Some(chars.next().filter(|c| *c == '.')?),
                c if c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ' ') => Some(c),
                _ => return None,
            });
        }
        reversed.reverse();
        Some(Self { whole, reversed })
    }

    fn matches(&self, module: &str) -> bool {
        let mut chars = module.chars().rev();
        let same = |wanted: &Option<char>| chars.next().is_some_and(|c| wanted.is_none_or(|w| w == c));
        if !self.reversed.iter().all(same) {
            return false;
        }
        match chars.next() {
            None => true,
            Some(before) => before == '.' && !self.whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_are_names_or_their_ends() {
        let is = |key: &str, module: &str| Pattern::parse(key).expect("a plain key").matches(module);
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
    fn regular_expressions_are_not_taken_for_names() {
        for key in [r"layers\.\d+.q", "q|k", "(q)", "q*", "q+", "[qk]", "a^b", "a$b", r"q\", "q?", "q{2}"] {
            assert!(Pattern::parse(key).is_none(), "{key}");
        }
    }
}
