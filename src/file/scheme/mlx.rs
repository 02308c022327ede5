//! Checkpoints of MLX: `weight` U32 `[.., m, k · bits / 32]`, codes as a stream of bits along k,
//! the lowest first, and `scales` `[.., m, groups]`. Mode "affine": `biases` as the scales,
//! `w = q · scale + bias`, 1 to 6 or 8 bits. Modes "mxfp4", "mxfp8" (U8 exponents of 32 columns)
//! and "nvfp4" (U8 E4M3 of 16 columns), in which experts may have a `global_scale` each:
//! `w = e2m1 · scale · global_scale / 2688`.
//!
//! `quantization` of the config.json says groups, bits and mode, and single modules may have others
//! under their names.

use super::settings::ObjectOr;
use super::view::{Checkpoint, Convention};
use crate::file::container::tensors::{Files, Module, Scheme, TensorInfo};
use crate::format::factored::Factored;
use crate::format::fp8::{self, Fp8, Scales, fp8_e4m3};
use crate::format::microscale::mxfp4::Pairs;
use crate::format::microscale::nvfp4_global::{Global, Nvfp4};
use crate::format::uniform::{CodeRows, Columns, More, Uniform};
use crate::format::{self, Format, Storage, affine};
use crate::tensor::PackedTensor;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["mlx"], codes: &[], parts: &["biases", "global_scale"], modules };

/// 448 times 6, the largest number that a scale and a code of NVFP4 make.
const LARGEST: f32 = 2688.0;

/// How codes are to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Affine { bits: u64 },
    Mxfp4,
    Mxfp8,
    Nvfp4,
}

impl Mode {
    fn bits(self) -> u64 {
        match self {
            Self::Affine { bits } => bits,
            Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Mxfp8 => 8,
        }
    }

    fn format(self) -> &'static Format {
        match self {
            Self::Affine { bits } => affine::grid_for(bits as usize, false).format,
            Self::Mxfp4 => format::MXFP4,
            Self::Mxfp8 => format::FP8_E4M3,
            Self::Nvfp4 => format::NVFP4_GLOBAL,
        }
    }
}

/// A weight, as far as headers and settings tell.
#[derive(Debug)]
struct Mlx {
    mode: Mode,
    shape: [usize; 2],
    /// Columns of a group.
    group: usize,
}

/// A config.json, as far as it tells this convention.
#[derive(Debug, Default, serde::Deserialize)]
struct ConfigJson {
    quantization: Option<Settings>,
    quantization_config: Option<Settings>,
}

/// What is said of all modules, and of single ones by their names beside that.
#[derive(Debug, Default)]
struct Settings {
    all: Told,
    modules: HashMap<String, Told>,
}

/// What is said of a module.
#[derive(Clone, Debug, Default, serde::Deserialize)]
struct Told {
    #[serde(rename = "group_size")]
    group: Option<u64>,
    bits: Option<u64>,
    mode: Option<String>,
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut settings = Settings::default();
        while let Some(name) = map.next_key::<String>()? {
            match &*name {
                "group_size" => settings.all.group = map.next_value()?,
                "bits" => settings.all.bits = map.next_value()?,
                "mode" => settings.all.mode = map.next_value()?,
                _ => {
                    if let Some(told) = map.next_value::<ObjectOr<Told>>()?.0 {
                        settings.modules.insert(name, told);
                    }
                }
            }
        }
        Ok(settings)
    }
}

impl Settings {
    fn of(checkpoint: &Checkpoint) -> crate::error::Result<Option<Self>> {
        let Some(config) = checkpoint.config else { return Ok(None) };
        let json = config.parse::<ConfigJson>()?;
        Ok(json.quantization.or(json.quantization_config))
    }

    /// Those of this module: its own, or those of the file.
    fn told(&self, module: &str) -> Told {
        let own = self.modules.get(module);
        // A module's settings without a mode are affine, whatever the file's is. Where the file
        // says none, the type of the scales tells.
        let mode = match own {
            Some(own) => own.mode.as_deref().or(Some("affine")),
            None => self.all.mode.as_deref(),
        };
        Told {
            group: own.and_then(|own| own.group).or(self.all.group),
            bits: own.and_then(|own| own.bits).or(self.all.bits),
            mode: mode.map(str::to_lowercase),
        }
    }
}

fn modules(checkpoint: &Checkpoint) -> crate::error::Result<Vec<TensorInfo>> {
    let codes = checkpoint.named("weight").filter(|(codes, _)| codes.dtype.name() == "U32");
    let scaled = codes.filter_map(|(codes, stem)| Some((codes, stem, checkpoint.beside(stem, "scales")?)));
    let scaled: Vec<_> = scaled.collect();
    let settings = if scaled.is_empty() { None } else { Settings::of(checkpoint)? };
    let module = |(codes, stem, scales): (_, &str, _)| {
        let told = settings.as_ref().map(|all| all.told(stem.strip_suffix('.').unwrap_or(stem)));
        Parts { checkpoint, stem, codes, scales }.module(&told.unwrap_or_default())
    };
    scaled.into_iter().map(module).collect()
}

/// The tensors of one weight.
struct Parts<'a> {
    checkpoint: &'a Checkpoint<'a>,
    stem: &'a str,
    codes: &'a TensorInfo,
    scales: &'a TensorInfo,
}

impl Parts<'_> {
    fn module(&self, told: &Told) -> crate::error::Result<TensorInfo> {
        let files = self.checkpoint.files;
        let name = format!("{}weight", self.stem);
        let biases = self.checkpoint.beside(self.stem, "biases");
        let global = self.checkpoint.beside(self.stem, "global_scale");
        let parts = [Some(self.codes), Some(self.scales), biases, global];
        let ([outer @ .., words], [its_outer @ .., groups]) = (&self.codes.shape[..], &self.scales.shape[..])
        else {
            return Err(files.malformed(self.codes, "a matrix belongs here, it is a scalar"));
        };
        if outer.is_empty() || outer != its_outer || *groups == 0 {
            let problem = format!(
                "scales of each row of {:?} belong here, its shape is {:?}",
                self.codes.shape, self.scales.shape
            );
            return Err(files.malformed(self.scales, problem));
        }
        let found = match self.scales.dtype.name() {
            "U8" => microscaled(told, *words, *groups),
            _ => affine(told, *words, *groups),
        };
        let Some((mode, group)) = found else {
            return Ok(self.checkpoint.unsupported(name, &parts, contradiction(told, *words, *groups)));
        };
        match (mode, biases, global) {
            (Mode::Affine { .. }, Some(biases), None) => {
                files.typed(self.scales, &["F32", "F16", "BF16"])?;
                files.typed(biases, &["F32", "F16", "BF16"])?;
                files.expect(biases, &self.scales.shape, "biases of groups")?;
            }
            (Mode::Affine { .. }, None, _) => {
                self.checkpoint.need(self.codes, self.stem, "biases")?;
            }
            (_, None, None) => {}
            (Mode::Nvfp4, None, Some(global)) => {
                files.typed(global, &["F32"])?;
                let matrices = self.codes.shape[..outer.len() - 1].iter().product();
                if ![1, matrices].contains(&global.elements()) {
                    files.count(global, matrices, "scales of matrices")?;
                }
            }
            (_, Some(other), _) | (_, _, Some(other)) => {
                let problem = format!("it belongs to no weight of {mode:?}");
                return Err(files.malformed(other, problem));
            }
        }
        let cols = groups * group;
        let shape = [outer, &[cols]].concat();
        let rows = outer.iter().product::<u64>() as usize;
        let scheme = Mlx { mode, shape: [rows, cols as usize], group: group as usize };
        Ok(Module::info(self.checkpoint.table, name, mode.format(), shape, &parts, Arc::new(scheme)))
    }
}

/// True if such words and scales hold the same columns.
fn fits(words: u64, groups: u64, bits: u64, group: u64) -> bool {
    let bits_of_groups = groups.checked_mul(group).and_then(|cols| cols.checked_mul(bits));
    bits_of_groups.is_some() && words.checked_mul(32) == bits_of_groups
}

/// Bits and columns of a group of the affine mode: those said, where they fit, or the only ones
/// that do.
fn affine(told: &Told, words: u64, groups: u64) -> Option<(Mode, u64)> {
    if told.mode.as_deref().is_some_and(|mode| mode != "affine") {
        return None;
    }
    let bits = [1, 2, 3, 4, 5, 6, 8].into_iter().filter(|bits| told.bits.is_none_or(|said| said == *bits));
    let each = |bits: u64| {
        let known = told.group.map_or(vec![32, 64, 128], |group| vec![group]);
        known.into_iter().filter(|group| *group > 0).map(move |group| (bits, group))
    };
    let mut fit = bits.flat_map(each).filter(|(bits, group)| fits(words, groups, *bits, *group));
    match (fit.next(), fit.next()) {
        (Some((bits, group)), None) => Some((Mode::Affine { bits }, group)),
        _ => None,
    }
}

/// The mode whose scales are bytes, which the shapes tell; what is said must be the same.
fn microscaled(told: &Told, words: u64, groups: u64) -> Option<(Mode, u64)> {
    let all = [(Mode::Mxfp4, 32, "mxfp4"), (Mode::Mxfp8, 32, "mxfp8"), (Mode::Nvfp4, 16, "nvfp4")];
    let said = |name: &str| told.mode.as_deref().is_none_or(|mode| mode == name);
    let found = all.into_iter().find(|(mode, group, _)| fits(words, groups, mode.bits(), *group));
    found.filter(|(_, _, name)| said(name)).map(|(mode, group, _)| (mode, group))
}

fn contradiction(told: &Told, words: u64, groups: u64) -> String {
    let number = |n: Option<u64>| n.map_or("some".into(), |n| n.to_string());
    let (bits, group) = (number(told.bits), number(told.group));
    format!(
        "MLX with settings that are not in its config.json: {words} words and {groups} scales a row are not \
         of {bits} bits in groups of {group}, mode {}, or fit several settings",
        told.mode.as_deref().unwrap_or("not said")
    )
}

impl Scheme for Mlx {
    fn description(&self) -> String {
        let mode = match self.mode {
            Mode::Affine { bits } => {
                return format!("MLX affine, {bits} bits, groups of {}, with offsets", self.group);
            }
            Mode::Mxfp4 => "mxfp4, 4 bits",
            Mode::Mxfp8 => "mxfp8, 8 bits",
            Mode::Nvfp4 => "nvfp4, 4 bits",
        };
        format!("MLX {mode}, groups of {}", self.group)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> crate::error::Result<PackedTensor> {
        let &Self { mode, shape: shape @ [rows, cols], group } = self;
        let codes = files.bytes(parts[0])?;
        let row_bytes = codes.len() / rows.max(1);
        let storage: Arc<dyn Storage> = match mode {
            Mode::Affine { bits } => Arc::new(Uniform {
                grid: affine::grid_for(bits as usize, false),
                shape,
                columns: Columns::Runs(group),
                codes: CodeRows { bytes: codes, row_bytes, bits: bits as usize, signed: false },
                groups: cols / group,
                scales: files.f32s(parts[1])?,
                zeros: files.f32s(parts[2])?,
                more: More { offsets: true, ..More::default() },
            }),
            Mode::Mxfp4 => Arc::new(Pairs { shape, codes, exponents: files.bytes(parts[1])? }),
            Mode::Mxfp8 => {
                let values = files.bytes(parts[1])?.iter().map(|e| fp8::power(*e)).collect();
                let scales = Scales { values, matrix: rows.max(1), block: [1, group], divide: false };
                Arc::new(Fp8 { kind: &fp8_e4m3::KIND, shape, codes, scales })
            }
            Mode::Nvfp4 => {
                let scales = files.bytes(parts[1])?;
                let weight = Arc::new(Nvfp4::new(shape, codes, scales, Global::Factor(1.0)));
                match parts.get(2) {
                    None => weight,
                    Some(global) => {
                        let factors = files.f32s(global)?.iter().map(|scale| scale / LARGEST).collect();
                        Arc::new(Factored::new(weight, rows, factors, ".global_scale"))
                    }
                }
            }
        };
        PackedTensor::from_storage(name, (rows, cols), storage)
    }
}
