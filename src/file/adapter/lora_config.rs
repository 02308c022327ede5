//! `adapter_config.json` of PEFT: ranks and scales by module, and what is refused.

use crate::error::Result;
use crate::file::adapter::lora_patterns::Patterns;
use crate::file::adapter::lora_value::{Pairs, Value};
use crate::file::container::folder::{Folder, malformed};
use crate::file::container::json;
use crate::file::names::shown;
use crate::file::scheme::config::json_error;
use crate::file::scheme::settings::Anything;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Number;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The file's name.
pub(crate) const NAME: &str = "adapter_config.json";
/// The longest configuration.
const MAX_CONFIG: u64 = 1 << 20;

/// The keys that decide about ranks and scales, or must have certain values.
const READ: &[&str] =
    &["peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"];

/// What must be off, and why. Off is: absent, null, false, "none", or empty.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "DoRA, which rescales the weight by rows, is not supported"),
    ("fan_in_fan_out", "weights that lie transposed are not supported"),
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
pub(crate) struct LoraConfig {
    rank: usize,
    alpha: f64,
    rank_stabilized: bool,
    ranks: Patterns<usize>,
    alphas: Patterns<f64>,
}

impl LoraConfig {
    /// The configuration for modules whose names have so many bytes together.
    pub fn new(text: &Text, name_bytes: usize) -> Result<Self> {
        Ok(Self {
            rank: text.number("r", rank, "a whole number above 0")?,
            alpha: text.number("lora_alpha", Number::as_f64, "a number")?,
            rank_stabilized: text.flag("use_rslora")?,
            ranks: text.patterns("rank_pattern", rank, "a whole number above 0", name_bytes)?,
            alphas: text.patterns("alpha_pattern", Number::as_f64, "a number", name_bytes)?,
        })
    }

    /// r of a module.
    pub fn rank(&self, module: &str) -> usize {
        self.ranks.find(module).unwrap_or(self.rank)
    }

    /// s of a module of this rank.
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        let alpha = self.alphas.find(module).unwrap_or(self.alpha);
        alpha / if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 }
    }
}

fn rank(number: &Number) -> Option<usize> {
    let rank = number.as_u64().and_then(|r| u32::try_from(r).ok());
    rank.filter(|r| *r > 0).map(|r| r as usize)
}

/// The file, and its one object.
#[derive(Debug)]
pub(crate) struct Text {
    path: PathBuf,
    text: String,
    keys: Keys,
}

impl Text {
    /// Reads the file, and refuses what is no LoRA or more than that.
    pub fn open(folder: &Folder) -> Result<Self> {
        let (path, text) = (folder.join(NAME), folder.text(NAME, MAX_CONFIG)?);
        let keys = serde_json::from_str(&text).map_err(|e| json_error(&path, &text, &e))?;
        let text = Self { path, text, keys };
        text.check_kind()?;
        text.check_refused()?;
        Ok(text)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.0.get(key)
    }

    fn malformed(&self, key: &str, problem: String) -> crate::Error {
        let first = self.get(key).and_then(|value| value.to_string().chars().next());
        let offset = first.and_then(|first| json::locate(&self.text, key, first)).unwrap_or(0);
        malformed(&self.path, &format!("key `{key}`"), offset, problem)
    }

    fn check_kind(&self) -> Result<()> {
        match self.get("peft_type") {
            Some(Value::Text(kind)) if kind == "LORA" => Ok(()),
            Some(Value::Text(other)) => {
                Err(self.malformed("peft_type", format!("{} is not supported, LORA is", shown(other))))
            }
            _ => Err(self.malformed("peft_type", "it is missing or no text".into())),
        }
    }

    /// Refuses what would make the product another.
    fn check_refused(&self) -> Result<()> {
        for (key, why) in REFUSED {
            if !self.get(key).is_none_or(Value::is_off) {
                return Err(self.malformed(key, (*why).into()));
            }
        }
        match self.get("init_lora_weights") {
            Some(Value::Text(init)) if !INITS.contains(&&**init) => {
                let problem = format!("{} changes the base weights, which is not supported", shown(init));
                Err(self.malformed("init_lora_weights", problem))
            }
            _ => Ok(()),
        }
    }

    fn number<T>(&self, key: &str, read: fn(&Number) -> Option<T>, wanted: &str) -> Result<T> {
        let Some(value) = self.get(key) else {
            return Err(self.malformed(key, "it is missing".into()));
        };
        let number = if let Value::Number(number) = value { read(number) } else { None };
        number
            .ok_or_else(|| self.malformed(key, format!("wanted {wanted}, got {}", shown(&value.to_string()))))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.malformed(key, format!("wanted true or false, got {}", shown(&other.to_string()))))
            }
        }
    }

    fn patterns<T: Copy>(
        &self,
        key: &str,
        read: fn(&Number) -> Option<T>,
        wanted: &str,
        name_bytes: usize,
    ) -> Result<Patterns<T>> {
        let none = Pairs::default();
        let pairs = match self.get(key) {
            None | Some(Value::Null) => &none,
            Some(Value::Object(pairs)) => pairs,
            Some(other) => {
                return Err(
                    self.malformed(key, format!("wanted an object, got {}", shown(&other.to_string())))
                );
            }
        };
        let wrong = |pattern: &str, got: &str| {
            self.malformed(key, format!("`{}`: wanted {wanted}, got {}", shown(pattern), shown(got)))
        };
        if let Some((pattern, got)) = &pairs.other {
            return Err(wrong(pattern, got));
        }
        let value = |(i, number): (usize, &Number)| {
            read(number).ok_or_else(|| wrong(pairs.names.get(i), &number.to_string()))
        };
        let values = pairs.numbers.iter().enumerate().map(value).collect::<Result<_>>()?;
        Patterns::new(&pairs.names, values, name_bytes).map_err(|problem| self.malformed(key, problem))
    }
}

/// The values of the keys that matter.
#[derive(Debug)]
struct Keys(BTreeMap<&'static str, Value>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let mut known = READ.iter().copied().chain(REFUSED.iter().map(|(key, _)| *key));
            match known.find(|known| *known == key) {
                Some(known) => {
                    keys.insert(known, map.next_value()?);
                }
                None => {
                    map.next_value::<Anything>()?;
                }
            }
        }
        Ok(Keys(keys))
    }
}
