//! Options that several verbs have. Each verb takes the groups that it uses, and no other.

use super::output::{self, Style};
use super::switches::Switches;
use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use qmatmul::error::{Error, Result};
use qmatmul::file::{Kind, Model, OpenOptions};
use qmatmul::format::FORMATS;
use qmatmul::gpu::{Runtime, Select, TuningCache};
use qmatmul::kernel::{Activations, MatmulOptions, Threshold};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How files are read.
#[derive(clap::Args, Clone, Default)]
pub struct Files {
    /// Read files instead of mapping them into memory
    #[arg(long)]
    pub no_mmap: bool,
}

/// Which device is used, and what of it.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Device")]
pub struct Device {
    /// `cpu`, a number of `qmatmul devices` or part of a name
    #[arg(long, value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    /// Device memory to use at most, as in 512M or 4G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub mem_limit: Option<u64>,
    #[command(flatten)]
    pub switches: Switches,
    /// Compile shaders with wgpu's run-time checks
    #[arg(long)]
    pub checked: bool,
}

/// How kernels are chosen.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Device")]
pub struct Kernels {
    /// Do not use what `qmatmul tune` measured
    #[arg(long)]
    pub no_tuning: bool,
}

/// How numbers are taken.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Numbers")]
pub struct Numbers {
    /// f32, q24, f16, q8 or int8
    #[arg(long, value_name = "KIND", default_value = "f32")]
    pub activations: Activations,
    /// Outliers of int8 [default: the file's, or 6]
    #[arg(long, value_name = "NUMBER")]
    pub int8_threshold: Option<f32>,
}

/// Where random numbers begin.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Numbers")]
pub struct Seed {
    /// Seed of random activations
    #[arg(long, value_name = "NUMBER", default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for Seed {
    fn default() -> Self {
        Self { seed: 1 }
    }
}

/// How results are printed.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// table, md (to paste), csv, json or jsonl
    #[arg(
        short = 'f',
        long = "format",
        value_enum,
        default_value_t,
        value_name = "FORM",
        hide_possible_values = true
    )]
    pub style: Style,
    /// Only errors and the verdict
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Every row; -vv and more: messages of the driver
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The groups of a verb; those that it does not have are as if nothing was said.
#[derive(Clone, Default)]
pub struct Common {
    pub files: Files,
    pub device: Device,
    pub kernels: Kernels,
    pub numbers: Numbers,
    pub seed: u64,
    pub output: Output,
}

impl Device {
    /// True if the reference path on the CPU was asked for.
    pub fn is_cpu(&self) -> bool {
        self.device.as_deref().is_some_and(|d| d.eq_ignore_ascii_case("cpu"))
    }

    /// An option that says what of a device is used, if one was given.
    pub fn detail(&self) -> Option<&'static str> {
        let mut switches = self.switches.without.iter().map(|capability| capability.argument());
        let others = [("--mem-limit", self.mem_limit.is_some()), ("--checked", self.checked)];
        switches.next().or(others.into_iter().find(|(_, given)| *given).map(|(name, _)| name))
    }
}

impl Output {
    /// A line for people on standard error.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            output::write_stderr(&qmatmul_report::plain(line));
        }
    }

    /// True if each row was asked for, not only what sums them up.
    pub fn is_verbose(&self) -> bool {
        self.verbose > 0
    }
}

impl Common {
    /// True if the reference path on the CPU was asked for.
    ///
    /// # Errors
    /// [`Error::Argument`] if it was, with an option that then has no effect.
    pub fn on_cpu(&self) -> Result<bool> {
        let tuning = self.kernels.no_tuning.then_some("--no-tuning");
        match (self.device.is_cpu(), self.device.detail().or(tuning)) {
            (true, Some(option)) => Err(no_effect(option, "with `--device cpu`")),
            (is_cpu, _) => Ok(is_cpu),
        }
    }

    /// The runtime on the device of `--device`, announced once.
    pub fn runtime(&self) -> Result<Runtime> {
        if self.device.is_cpu() {
            return Err(Error::Argument(
                "this verb needs a GPU adapter: `--device cpu` is the reference itself".into(),
            ));
        }
        let runtime = Runtime::with_options(&self.gpu_options())?;
        self.say(&format!("device: {}", runtime.adapter()));
        let activations = self.numbers.activations;
        if activations != Activations::F32 {
            self.say(&format!("activations: rounded to {}", activations.name()));
        }
        Ok(runtime)
    }

    /// The device of `--device`, and what of it may be used.
    pub fn gpu_options(&self) -> qmatmul::gpu::Options {
        let device = &self.device;
        let Ok(select) = device.device.as_deref().map_or(Ok(Select::Best), str::parse);
        qmatmul::gpu::Options {
            select,
            without: device.switches.without.clone(),
            tuning: if self.kernels.no_tuning { TuningCache::Off } else { TuningCache::Disk },
            checked: device.checked,
            memory_limit: device.mem_limit,
            ..Default::default()
        }
    }

    /// How a matmul is carried out if nothing more is said, with weights of a model or without one.
    ///
    /// # Errors
    /// [`Error::Argument`] if a threshold is none.
    pub fn options(&self, model: Option<&Model>) -> Result<MatmulOptions> {
        Ok(MatmulOptions::with(self.activations(model)?))
    }

    /// The activations, with the threshold of LLM.int8 that was asked for or that the model's
    /// settings have.
    pub fn activations(&self, model: Option<&Model>) -> Result<Activations> {
        let numbers = &self.numbers;
        match (numbers.activations, numbers.int8_threshold) {
            (Activations::Int8(default), asked) => {
                let threshold = asked.or(model.and_then(Model::int8_threshold)).unwrap_or(default.value());
                Ok(Activations::Int8(Threshold::new(threshold)?))
            }
            (other, Some(_)) => {
                let why = format!("with {} activations: it is for `--activations int8`", other.name());
                Err(no_effect("--int8-threshold", why))
            }
            (other, None) => Ok(other),
        }
    }

    /// Opens a model, and says so where it lies in more files than the one that was named.
    pub fn open(&self, path: &Path) -> Result<Model> {
        let model = Model::open(path, &self.open_options())?;
        if let (Kind::Gguf(_), parts @ 2..) = (model.kind(), model.files().len()) {
            self.say(&format!("{}: a model in {parts} parts, all of which are taken", path.display()));
        }
        Ok(model)
    }

    /// How files are opened.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions { mmap: !self.files.no_mmap }
    }

    /// A line for people on standard error.
    pub fn say(&self, line: &str) {
        self.output.say(line);
    }
}

/// That an option was given which changes nothing.
pub fn no_effect(option: &str, why: impl std::fmt::Display) -> Error {
    Error::Argument(format!("{option} has no effect {why}"))
}

/// Refuses the first of these options that was given, as none of them changes anything.
///
/// # Errors
/// [`Error::Argument`] with its name and the reason.
pub fn refuse_given(options: &[(&str, bool)], why: impl std::fmt::Display) -> Result<()> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(no_effect(option, why)),
        None => Ok(()),
    }
}

/// A text that completions know some values of. Any is taken: whoever reads it knows more of what
/// is wrong with it than that it is not in a list.
#[derive(Clone)]
struct Listed(Vec<String>);

/// A parser of any text, with these values for completions.
pub fn listed(values: Vec<String>) -> impl TypedValueParser<Value = String> {
    Listed(values)
}

impl TypedValueParser for Listed {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> std::result::Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The names of all formats, as completions list them.
pub fn formats() -> impl TypedValueParser<Value = String> {
    listed(FORMATS.iter().map(|format| format.name.to_owned()).collect())
}

/// The name of a file to write: no stream.
pub fn output_file(text: &str) -> std::result::Result<PathBuf, String> {
    match text {
        "-" => Err("wanted the name of a file: this is not written to standard output".into()),
        name => Ok(name.into()),
    }
}

/// Bytes of memory, with K, M, G or T for powers of 1024.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    size_in(1024, text)
}

/// Bytes of a file, with K, M, G or T for powers of 1000, as llama.cpp takes them.
pub fn file_size(text: &str) -> std::result::Result<u64, String> {
    size_in(1000, text)
        .and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("wanted more than 0 bytes".into()) })
}

/// A number, with a letter for powers of `unit`; `MB` is always 1000², `MiB` 1024².
fn size_in(unit: u64, text: &str) -> std::result::Result<u64, String> {
    let wanted = || "wanted a number of bytes, as in 512M, 0.5GB or 4G".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text[digits.len()..].to_ascii_uppercase();
    let (letter, unit) = match (suffix.strip_suffix("IB"), suffix.strip_suffix('B')) {
        (Some(letter @ ("K" | "M" | "G" | "T")), _) => (letter, 1024),
        (_, Some(letter)) => (letter, 1000),
        _ => (&*suffix, unit),
    };
    let power = match letter {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wanted()),
    };
    // An exact decimal fraction: all digits as one number, divided by a power of ten.
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = !whole.is_empty()
        && [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
        && (fraction.is_empty() != digits.contains('.'));
    if !all_digits || (power == 0 && !fraction.is_empty()) {
        return Err(wanted());
    }
    let too_many = || "more bytes than 64 bits hold".to_owned();
    let number: u128 = [whole, fraction].concat().parse().map_err(|_| too_many())?;
    let bytes = number.checked_mul(u128::from(unit).pow(power)).ok_or_else(too_many)?;
    let tens = 10u128.checked_pow(fraction.len() as u32).ok_or_else(wanted)?;
    u64::try_from(bytes / tens).map_err(|_| too_many())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        let read = |text| super::size(text).ok();
        assert_eq!(
            [read("512M"), read("4g"), read("3T"), read("77"), read("1K"), read("1.5G")],
            [Some(512 << 20), Some(4 << 30), Some(3 << 40), Some(77), Some(1024), Some(3 << 29)]
        );
        assert_eq!(
            [read("0.5GB"), read("4MiB"), read("12B"), read("0.25kb")],
            [Some(500_000_000), Some(4 << 20), Some(12), Some(250)]
        );
        let file = |text| super::file_size(text).ok();
        assert_eq!(
            [file("4G"), file("1500"), file("0.5GB"), file("1GiB"), file("0"), file("0K")],
            [Some(4_000_000_000), Some(1500), Some(500_000_000), Some(1 << 30), None, None]
        );
        for text in ["", "M", "-1M", "1.G", ".5G", "1.5", "4 G", "4X", "4GX", "1e3", "99999999999T", "IB"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
