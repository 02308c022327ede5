//! The command: one file per verb. The library does the work; here are arguments, tables and exit
//! codes.

mod bench;
mod chart;
mod check;
mod check_devices;
mod compare;
mod devices;
mod diagnose;
mod inspect;
mod interrupt;
mod list;
mod lora;
mod matmul;
mod measured;
mod output;
mod peak;
mod pictures;
mod progress;
mod quantize;
mod shader;
mod subjects;
mod switches;
mod tune;

use clap::{Args, CommandFactory, Parser, Subcommand};
use qmatmul::error::{Error, Result};
use qmatmul::file::{Kind, Model, OpenOptions};
use qmatmul::gpu::{Options, Runtime, Select, TuningCache};
use qmatmul::kernel::{Activations, MatmulOptions, Threshold};
use std::path::Path;
use std::process::ExitCode;
use switches::Switches;

/// Quantized matmul on any GPU, every answer checked against a CPU reference.
#[derive(Parser)]
#[command(name = "qmatmul", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb.
#[derive(Args)]
struct Common {
    /// Adapter: `cpu` (the reference path), a number of `qmatmul devices`, or part of a name;
    /// `vulkan`, `metal` or `dx12` takes the first of that backend, and before a colon narrows a
    /// name to it, as in `dx12:radeon`
    #[arg(long, global = true, value_name = "cpu|NUMBER|[BACKEND:]NAME")]
    device: Option<String>,
    /// Output as a Markdown table, CSV, JSON, or JSON lines
    #[arg(
        short = 'o',
        long = "format",
        global = true,
        default_value = "md",
        value_name = "md|csv|json|jsonl"
    )]
    style: output::Style,
    /// Seed of random activations
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Read files instead of mapping them into memory
    #[arg(long, global = true)]
    no_mmap: bool,
    /// How activations are taken: as they are, rounded to f16 (with cooperative matrices the
    /// weights too), rounded to eight bits per 32 and multiplied as integers, or as LLM.int8 does
    /// (INT8 weights)
    #[arg(long, global = true, value_name = "f32|f16|q8|int8", default_value = "f32")]
    activations: Activations,
    /// LLM.int8: features of this magnitude or more are not rounded, 0 for none [default: the
    /// checkpoint's, or 6]; what `quantize` writes down for INT8
    #[arg(long, global = true, value_name = "NUMBER")]
    int8_threshold: Option<f32>,
    #[command(flatten)]
    switches: Switches,
    /// Do not use what `qmatmul tune` measured on this device
    #[arg(long, global = true)]
    no_tuning: bool,
    /// Device memory to use at most, as in `512M` or `4G`: more is an error, not swapping
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    mem_limit: Option<u64>,
    /// Compile shaders with wgpu's run-time checks
    #[arg(long, global = true)]
    checked: bool,
    /// Only results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more (twice: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Verb {
    /// Adapters, what each can do, and the limits that matter here
    Devices,
    /// What is in a model file: tensors, formats, sizes, bits per weight; or in an importance
    /// matrix
    Inspect(inspect::Inspect),
    /// GPU against the CPU reference: on a model file, or on built-in shapes
    Check(check::Check),
    /// y = x · wᵀ for one tensor of a file, with its bias and adapters
    Matmul(matmul::Matmul),
    /// One tensor as f32
    Dequantize(matmul::Dequantize),
    /// Weights into a packed format: to GGUF, or to a checkpoint of bitsandbytes for NF4, FP4 and
    /// INT8
    ///
    /// The CPU encodes, as it is faster than a copy to a device and back; where `--device` names
    /// one, it encodes NF4, FP4 and INT8, to the same bytes.
    Quantize(quantize::Quantize),
    /// Shader throughput, result checked first
    Bench(bench::Bench),
    /// The device's own copy and read bandwidth, arithmetic peak and overheads
    Peak(peak::Peak),
    /// Which kernel is the fastest on this device, measured and remembered
    Tune(tune::Tune),
    /// The composed shader of a format and a kernel, or its translation
    Shader(shader::Shader),
    /// Completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What a verb that ran to its end says.
enum Verdict {
    Fine,
    CheckFailed,
}

impl Verdict {
    /// How a verb ends, given what became of its outputs: that something is wrong comes first.
    fn of(right: bool, outputs: impl IntoIterator<Item = Result<()>>) -> Result<Self> {
        if right {
            return outputs.into_iter().collect::<Result<()>>().map(|()| Self::Fine);
        }
        let errors = outputs.into_iter().filter_map(Result::err);
        errors.filter(|error| !is_broken_pipe(error)).for_each(|error| complain(&error));
        Ok(Self::CheckFailed)
    }
}

/// Parses the command line, runs the verb, and maps the outcome to an exit code.
fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(cli.common.verbose);
    interrupt::watch();
    match cli.verb.run(&cli.common) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::CheckFailed) => ExitCode::from(1),
        // The reader of our output went away: not an error of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Output { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

fn complain(error: &Error) {
    output::write_stderr(&format!("error: {}", output::plain(&error.to_string())));
}

impl Verb {
    fn run(self, common: &Common) -> Result<Verdict> {
        match self {
            Self::Devices => devices::run(common),
            Self::Inspect(verb) => verb.run(common),
            Self::Check(verb) => verb.run(common),
            Self::Matmul(verb) => verb.run(common),
            Self::Dequantize(verb) => verb.run(common),
            Self::Quantize(verb) => verb.run(common),
            Self::Bench(verb) => verb.run(common),
            Self::Peak(verb) => verb.run(common),
            Self::Tune(verb) => verb.run(common),
            Self::Shader(verb) => verb.run(common),
            Self::Completions { shell } => {
                let mut script = vec![];
                clap_complete::generate(shell, &mut Cli::command(), "qmatmul", &mut script);
                output::write_stdout(&script)?;
                Ok(Verdict::Fine)
            }
        }
    }
}

/// Logs of wgpu and the driver: errors always, more with `-v`, or as `RUST_LOG` says.
fn init_log(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "warn",
        2 => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

/// 2 usage, or an output that cannot be written · 3 no adapter or a missing feature · 4 a bad input
/// file · 5 device lost, out of memory, timed out; 130 interrupted ([`interrupt`]).
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Argument(_) | Error::Output { .. } => 2,
        Error::NoAdapter(_) | Error::MissingFeature { .. } | Error::LimitExceeded { .. } => 3,
        Error::OutOfMemory { .. } | Error::DeviceLost(_) | Error::TimedOut { .. } | Error::Gpu { .. } => 5,
        _ => 4,
    }
}

/// Bytes of memory: a number, with K, M, G or T for powers of 1024.
fn size(text: &str) -> std::result::Result<u64, String> {
    size_in(1024, text)
}

/// Bytes of a file: a number, with K, M, G or T for powers of 1000, as llama.cpp takes them.
fn decimal_size(text: &str) -> std::result::Result<u64, String> {
    size_in(1000, text)
        .and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("wanted more than 0 bytes".into()) })
}

fn size_in(unit: u64, text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let power = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err("wanted a number of bytes, as in 512M or 4G".into()),
    };
    let number: u64 =
        digits.parse().map_err(|e| format!("wanted a number of bytes, as in 512M or 4G: {e}"))?;
    number.checked_mul(unit.pow(power)).ok_or_else(|| "more bytes than 64 bits hold".into())
}

impl Common {
    /// True if the reference path on the CPU was asked for.
    fn on_cpu(&self) -> bool {
        self.device.as_deref().is_some_and(|d| d.eq_ignore_ascii_case("cpu"))
    }

    /// The runtime on the device of `--device`, announced once.
    fn runtime(&self) -> Result<Runtime> {
        if self.on_cpu() {
            return Err(Error::Argument(
                "this verb needs a GPU adapter: `--device cpu` is the reference itself".into(),
            ));
        }
        let runtime = Runtime::with_options(&self.gpu_options())?;
        let adapter = runtime.adapter();
        self.say(&format!("device: {adapter}"));
        if self.activations != Activations::F32 {
            self.say(&format!("activations: rounded to {}", self.activations.name()));
        }
        Ok(runtime)
    }

    /// The device of `--device`, and what of it may be used.
    fn gpu_options(&self) -> Options {
        let Ok(select) = self.device.as_deref().map_or(Ok(Select::Best), str::parse);
        Options {
            select,
            without: self.switches.without.clone(),
            tuning: if self.no_tuning { TuningCache::Off } else { TuningCache::Disk },
            checked: self.checked,
            memory_limit: self.mem_limit,
            ..Options::default()
        }
    }

    /// How a matmul is carried out if nothing more is said, with weights of a model or without one.
    ///
    /// # Errors
    /// [`Error::Argument`] if a threshold is none.
    fn options(&self, model: Option<&Model>) -> Result<MatmulOptions> {
        Ok(MatmulOptions::with(self.activations(model)?))
    }

    /// The activations, with the threshold of LLM.int8 that was asked for or that the model's
    /// settings have.
    fn activations(&self, model: Option<&Model>) -> Result<Activations> {
        let Activations::Int8(default) = self.activations else { return Ok(self.activations) };
        let said = self.int8_threshold.or(model.and_then(Model::int8_threshold));
        let value = said.unwrap_or(default.value());
        Ok(Activations::Int8(Threshold::new(value)?))
    }

    /// Opens a model, and says so where it lies in more files than the one that was named.
    fn open(&self, path: &Path) -> Result<Model> {
        let model = Model::open(path, &self.open_options())?;
        if let (Kind::Gguf(_), parts @ 2..) = (model.kind(), model.files().len()) {
            self.say(&format!("{}: a model in {parts} parts, all of which are taken", path.display()));
        }
        Ok(model)
    }

    /// How files are opened.
    fn open_options(&self) -> OpenOptions {
        OpenOptions { mmap: !self.no_mmap }
    }

    /// A line for people on standard error.
    fn say(&self, line: &str) {
        if !self.quiet {
            output::write_stderr(&output::plain(line));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        let read = |text| super::size(text).ok();
        assert_eq!(
            (read("512M"), read("4g"), read("3T"), read("77"), read("1K")),
            (Some(512 << 20), Some(4 << 30), Some(3 << 40), Some(77), Some(1024))
        );
        let decimal = |text| super::decimal_size(text).ok();
        assert_eq!(
            [decimal("4G"), decimal("1500"), decimal("0"), decimal("0K")],
            [Some(4_000_000_000), Some(1500), None, None]
        );
        assert_eq!(
            [read(""), read("M"), read("-1M"), read("1.5G"), read("4 G"), read("4GB"), read("99999999999T")],
            [None; 7]
        );
    }
}
