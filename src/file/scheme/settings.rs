//! How a checkpoint was quantized, as its config.json says. Of all that only what conventions ask
//! for is kept: JSON in memory takes up to 30 times its text. A setting of the wrong type is
//! refused, since a guess would take its place.

use crate::error::{Error, Result as Checked};
use crate::file::names::shown;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// The most ways to quantize in one checkpoint that differ; real ones have up to four.
const MAX_WAYS: usize = 64;

/// What `quantization_config` or quantize_config.json says.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(expecting = "an object of settings")]
pub(crate) struct QuantizationConfig {
    /// False where there are none at all.
    #[serde(skip)]
    pub found: bool,
    /// The scheme that is not supported, where all quantized weights have such a one.
    #[serde(skip)]
    pub unsupported: Option<String>,
    quant_method: Option<Text>,
    checkpoint_format: Option<Text>,
    format: Option<Text>,
    version: Option<Text>,
    bits: Option<i64>,
    w_bit: Option<i64>,
    #[serde(default, deserialize_with = "said")]
    group_size: Option<Option<i64>>,
    q_group_size: Option<i64>,
    pub sym: Option<bool>,
    pub desc_act: Option<bool>,
    pub zero_point: Option<bool>,
    pub is_marlin_format: Option<bool>,
    pub weight_block_size: Option<Block>,
    weight_scale_semantics: Option<Text>,
    quant_algo: Option<Text>,
    #[serde(default)]
    config_groups: Option<Several<ConfigGroup>>,
    meta: Option<Meta>,
    #[serde(default)]
    dynamic: Option<Several<Override>>,
    quant_config: Option<HqqParams>,
    weight_quant_params: Option<HqqParams>,
    nbits: Option<f64>,
    axis: Option<f64>,
    llm_int8_threshold: Option<f64>,
}

impl QuantizationConfig {
    /// Names a tool that is not among `methods`, whose codes would pass for matrices of integers;
    /// refuses groups of no size, and a threshold of no magnitude.
    pub fn checked(mut self, path: &Path, methods: &[&str]) -> Checked<Self> {
        self.unsupported = match self.method().filter(|method| !methods.contains(method)) {
            Some(method) => Some(format!("quant_method `{}` (known: {})", shown(method), methods.join(", "))),
            None => (self.is_marlin_format == Some(true)).then(|| "Marlin (is_marlin_format)".into()),
        };
        let ways = self.ways().filter_map(|way| way.group_size);
        let sizes = self.group_size().into_iter().chain(self.overrides().iter().filter_map(|o| o.group_size));
        let wrong = sizes.chain(ways).find(|size| *size != -1 && !(1..=i64::from(u32::MAX)).contains(size));
        if let Some(size) = wrong {
            let wanted = format!("1 to {} belong here, or -1 for whole rows", u32::MAX);
            return Err(refused(path, "group_size", format!("groups of {size} columns: {wanted}")));
        }
        // What f32 has no number for but zero would be none, and mean the opposite.
        let vanishes = |t: f64| t > 0.0 && t as f32 == 0.0;
        let is_wrong = |t: &f64| !(0.0..=f64::from(f32::MAX)).contains(t) || vanishes(*t);
        match self.llm_int8_threshold.filter(is_wrong) {
            None => Ok(Self { found: true, ..self }),
            Some(threshold) => {
                let problem = format!("a threshold of {threshold:?}: 0 to {:e} belong here", f32::MAX);
                Err(refused(path, "llm_int8_threshold", problem))
            }
        }
    }

    /// From which magnitude on LLM.int8 leaves an activation out of its integers; 0 for never.
    pub fn int8_threshold(&self) -> Option<f32> {
        self.llm_int8_threshold.map(|threshold| threshold as f32)
    }

    /// The tool, lower case.
    pub fn method(&self) -> Option<&str> {
        text(&self.quant_method)
    }

    /// True if the tool is one of these.
    pub fn is_of(&self, methods: &[&str]) -> bool {
        self.method().is_some_and(|method| methods.contains(&method))
    }

    /// What older files of this key have: a tool that is not named.
    pub fn or_method(mut self, method: &str) -> Self {
        self.quant_method.get_or_insert_with(|| Text(method.into()));
        self
    }

    pub fn checkpoint_format(&self) -> Option<&str> {
        text(&self.checkpoint_format)
    }

    pub fn format(&self) -> Option<&str> {
        text(&self.format)
    }

    pub fn version(&self) -> Option<&str> {
        text(&self.version)
    }

    /// What ModelOpt calls its scheme: `w4a16_awq`.
    pub fn quant_algo(&self) -> Option<&str> {
        text(&self.quant_algo)
    }

    /// Whether GPTQModel's scales of FP8 divide: `inverse`.
    pub fn weight_scale_semantics(&self) -> Option<&str> {
        text(&self.weight_scale_semantics)
    }

    /// Bits of a code, also as llm-awq calls them.
    pub fn bits(&self) -> Option<i64> {
        self.bits.or(self.w_bit)
    }

    /// Columns of a group, also as llm-awq calls them; -1 is a whole row.
    pub fn group_size(&self) -> Option<i64> {
        self.group_size.flatten().or(self.q_group_size)
    }

    /// True if GPTQModel wrote it: `meta.quantizer` is `gptqmodel:7.7.0` or a list with such a
    /// text.
    pub fn is_by_gptqmodel(&self) -> bool {
        let tools = self.meta.as_ref().and_then(|meta| meta.quantizer.as_ref());
        tools.is_some_and(|tools| tools.0.iter().any(|tool| tool.starts_with("gptqmodel")))
    }

    /// What GPTQModel says of single modules.
    pub fn overrides(&self) -> &[Override] {
        self.dynamic.as_ref().map_or(&[], |all| &all.0)
    }

    /// The ways of compressed-tensors to quantize weights.
    pub fn ways(&self) -> impl Iterator<Item = &Way> {
        self.config_groups.iter().flat_map(|all| &all.0).filter_map(|group| group.weights.as_ref())
    }

    /// A number of HQQ: `Some(None)` where it is said that there is none.
    pub fn hqq(&self, name: &str) -> Option<Option<f64>> {
        let top = HqqParams {
            nbits: self.nbits.or(self.bits.map(|bits| bits as f64)),
            group_size: self.group_size.map(|size| size.map(|size| size as f64)),
            axis: self.axis,
            ..HqqParams::default()
        };
        let params = self.quant_config.as_ref().or(self.weight_quant_params.as_ref()).unwrap_or(&top);
        let params = params.weight_quant_params.as_deref().unwrap_or(params);
        match name {
            "nbits" => params.nbits.or(params.bits).map(Some),
            "group_size" => params.group_size,
            _ => params.axis.map(Some),
        }
    }
}

/// Something that is wrong with a setting.
fn refused(path: &Path, setting: &str, problem: String) -> Error {
    let (file, what) = (path.display().to_string(), format!("setting `{setting}`"));
    Error::Malformed { file, what, offset: 0, problem }
}

fn text(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(|text| &*text.0)
}

/// One of compressed-tensors' `config_groups`.
#[derive(Debug, PartialEq, serde::Deserialize)]
struct ConfigGroup {
    weights: Option<Way>,
}

/// How it quantizes the weights of some modules.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
#[serde(expecting = "an object of settings")]
pub(crate) struct Way {
    pub num_bits: Option<u64>,
    group_size: Option<i64>,
    strategy: Option<Text>,
    block_structure: Option<Block>,
    pub symmetric: Option<bool>,
    actorder: Option<ActOrder>,
}

impl Way {
    /// Columns of a group: `Some(-1)` for a whole row, nothing where that is not said.
    pub fn group(&self) -> Option<i64> {
        match text(&self.strategy) {
            Some("channel" | "tensor") => Some(-1),
            _ => self.group_size,
        }
    }

    /// Rows and columns that share a scale, where those are less than a row.
    pub fn block(&self) -> Option<[u64; 2]> {
        match (self.block_structure, self.group()) {
            (Some(block), _) => Some(block.0),
            (None, Some(size)) => Some([1, u64::try_from(size).ok().filter(|size| *size > 0)?]),
            (None, None) => None,
        }
    }

    /// True if the columns of a group lie anywhere in a row.
    pub fn is_ordered(&self) -> bool {
        self.actorder.as_ref().is_some_and(|order| order.0)
    }
}

/// Who wrote a checkpoint, as GPTQModel says it.
#[derive(Debug, serde::Deserialize)]
#[serde(expecting = "an object")]
struct Meta {
    quantizer: Option<OneOrMany>,
}

/// A text or a list of them, lower case.
#[derive(Debug)]
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![text.to_lowercase()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut all = vec![];
        while let Some(text) = list.next_element::<Text>()? {
            all.push(text.0);
        }
        Ok(OneOrMany(all))
    }
}

/// What GPTQModel's `dynamic` says of the modules that match a regular expression.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(expecting = "an object of settings")]
pub(crate) struct Override {
    pub group_size: Option<i64>,
}

/// `quant_config` of HQQ, which may have them one level deeper.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(expecting = "an object of settings")]
struct HqqParams {
    nbits: Option<f64>,
    bits: Option<f64>,
    #[serde(default, deserialize_with = "said")]
    group_size: Option<Option<f64>>,
    axis: Option<f64>,
    weight_quant_params: Option<Box<HqqParams>>,
}

/// Null is something else than nothing.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A text in lower case.
#[derive(Debug, PartialEq)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        String::deserialize(value).map(|text| Self(text.to_lowercase()))
    }
}

/// Two numbers above zero: `[128, 128]`, or `"128x128"` as older files have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Block(pub [u64; 2]);

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(BlockVisitor)
    }
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = Block;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two numbers above zero, the rows and columns of a block")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Block, E> {
        let sizes = text.split_once('x').and_then(|(r, c)| Some([r.parse().ok()?, c.parse().ok()?]));
        match sizes {
            Some(sizes) if !sizes.contains(&0) => Ok(Block(sizes)),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Block, A::Error> {
        let sizes = [list.next_element::<u64>()?, list.next_element::<u64>()?];
        let mut count = sizes.iter().flatten().count();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        match sizes {
            [Some(r), Some(c)] if count == 2 && r > 0 && c > 0 => Ok(Block([r, c])),
            [r, c] => {
                let got = [r, c].into_iter().flatten().collect::<Vec<_>>();
                Err(A::Error::custom(format_args!(
                    "{count} numbers, which begin with {got:?}: two above zero belong here"
                )))
            }
        }
    }
}

/// `true`, `"group"` or `"dynamic"` put the columns of a group anywhere.
#[derive(Debug, PartialEq)]
struct ActOrder(bool);

impl<'de> Deserialize<'de> for ActOrder {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(ActOrderVisitor)
    }
}

struct ActOrderVisitor;

impl Visitor<'_> for ActOrderVisitor {
    type Value = ActOrder;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a text")
    }

    fn visit_bool<E>(self, ordered: bool) -> Result<ActOrder, E> {
        Ok(ActOrder(ordered))
    }

    fn visit_str<E>(self, text: &str) -> Result<ActOrder, E> {
        Ok(ActOrder(["group", "dynamic"].contains(&&*text.to_lowercase())))
    }
}

/// The values of a map that differ. Those whose keys begin with `-` are left out: GPTQModel does
/// not quantize what they match.
#[derive(Debug)]
struct Several<T>(Vec<T>);

impl<'de, T: Deserialize<'de> + PartialEq> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_map(SeveralVisitor(PhantomData)).map(Self)
    }
}

struct SeveralVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + PartialEq> Visitor<'de> for SeveralVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
        let mut all: Vec<T> = vec![];
        while let Some(name) = map.next_key::<String>()? {
            if name.starts_with('-') {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value()?;
            if !all.contains(&value) {
                all.push(value);
            }
            if all.len() > MAX_WAYS {
                return Err(A::Error::custom(format_args!("more than {MAX_WAYS} settings that differ")));
            }
        }
        Ok(all)
    }
}

/// A config.json, as far as it tells how weights were quantized.
#[derive(Default, serde::Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Config {
    quantization_config: Option<QuantizationConfig>,
    /// Of compressed-tensors before it had the name of all others.
    compression_config: Option<Compression>,
    /// Of models that see or hear.
    text_config: Option<Inner>,
}

#[derive(serde::Deserialize)]
#[serde(expecting = "an object")]
struct Inner {
    quantization_config: Option<QuantizationConfig>,
}

impl Config {
    pub fn settings(self) -> Option<QuantizationConfig> {
        let inner = self.text_config.and_then(|inner| inner.quantization_config);
        let legacy = self.compression_config.map(Compression::settings);
        self.quantization_config.or(inner).or(legacy.flatten())
    }
}

/// The settings, or an object that has them.
#[derive(serde::Deserialize)]
#[serde(expecting = "an object")]
struct Compression {
    quantization_config: Option<QuantizationConfig>,
    quant_method: Option<Text>,
    format: Option<Text>,
    config_groups: Option<Several<ConfigGroup>>,
}

impl Compression {
    fn settings(self) -> Option<QuantizationConfig> {
        let Self { quantization_config, quant_method, format, config_groups } = self;
        let own = config_groups.is_some() || format.is_some() || quant_method.is_some();
        let own = own.then(|| QuantizationConfig {
            quant_method,
            format,
            config_groups,
            ..QuantizationConfig::default()
        });
        quantization_config.or(own).map(|settings| settings.or_method("compressed-tensors"))
    }
}

/// An object of this kind, or nothing where there is any other JSON that `serde_json::Value` takes:
/// skipping accepts deeper nesting and larger numbers.
#[derive(Debug)]
pub(crate) struct ObjectOr<T>(pub Option<T>);

/// Any such JSON.
pub(crate) type Anything = ObjectOr<Entries>;

/// Those of an object, passed over.
pub(crate) struct Entries;

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        while map.next_entry::<Anything, Anything>()?.is_some() {}
        Ok(Entries)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOr<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(ObjectOrVisitor(PhantomData))
    }
}

struct ObjectOrVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOrVisitor<T> {
    type Value = ObjectOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<ObjectOr<T>, E> {
        Ok(ObjectOr(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ObjectOr<T>, A::Error> {
        while list.next_element::<Anything>()?.is_some() {}
        Ok(ObjectOr(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ObjectOr<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| ObjectOr(Some(object)))
    }
}
