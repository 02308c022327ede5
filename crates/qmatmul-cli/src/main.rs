//! The command: one file per verb. The library does the work; here are arguments, tables and exit
//! codes.

mod bench;
mod check;
mod check_devices;
mod checked;
mod compare;
mod devices;
mod diagnose;
mod help;
mod inspect;
mod interrupt;
mod list;
mod lora;
mod matmul;
mod options;
mod output;
mod peak;
mod progress;
mod quantize;
mod records;
mod shader;
mod subjects;
mod summary;
mod switches;
mod tune;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use qmatmul::error::{Error, Result};
use std::process::ExitCode;

/// Quantized matmul on any GPU, every answer checked against a CPU reference.
#[derive(Parser)]
#[command(name = "qmatmul", version, max_term_width = 100, after_help = help::CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the adapters: what each can do, and the limits that matter here
    #[command(after_help = help::DEVICES)]
    Devices(devices::Devices),
    /// Show what is in a model file: architecture, tensors, formats, sizes
    #[command(after_help = help::INSPECT)]
    Inspect(inspect::Inspect),
    /// Hold the GPU against the CPU reference: on a model file, or on built-in shapes
    #[command(after_help = help::CHECK)]
    Check(check::Check),
    /// Compute y = x · wᵀ for one tensor of a file, with its bias and LoRA adapters
    #[command(after_help = help::MATMUL)]
    Matmul(matmul::Matmul),
    /// Write one tensor as f32
    #[command(after_help = help::DEQUANTIZE)]
    Dequantize(matmul::Dequantize),
    /// Bring weights into a packed format: in a GGUF, or as a checkpoint folder (NF4, FP4, INT8)
    #[command(after_help = help::QUANTIZE)]
    Quantize(quantize::Quantize),
    /// Measure the shaders, after their results are checked; of a file: its matrices
    #[command(after_help = help::BENCH)]
    Bench(bench::Bench),
    /// Measure the device's own bandwidth, arithmetic and overheads
    #[command(after_help = help::PEAK)]
    Peak(peak::Peak),
    /// Find the fastest kernel on this device, and remember it
    #[command(after_help = help::TUNE)]
    Tune(tune::Tune),
    /// Sum up recorded runs of one device: shares of what it can do
    #[command(after_help = help::SUMMARY)]
    Summary(summary::Summary),
    /// Print the shader of a format and a kernel, or its translation
    #[command(after_help = help::SHADER)]
    Shader(shader::Shader),
    /// Print the completion script of a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(help::Completions),
    /// Print the manual page of a verb, or write those of all
    #[command(after_help = help::MAN)]
    Man(help::Man),
}

/// How a verb ended that could say what it found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Fine,
    CheckFailed,
    Interrupted,
}

impl Ending {
    /// How a verb ends, given what became of its outputs: that something is wrong comes first.
    fn of(right: bool, outputs: impl IntoIterator<Item = Result<()>>) -> Result<Self> {
        if right {
            let outputs: Result<()> = outputs.into_iter().collect();
            return outputs.map(|()| if interrupt::is_requested() { Self::Interrupted } else { Self::Fine });
        }
        let errors = outputs.into_iter().filter_map(Result::err);
        errors.filter(|error| !is_broken_pipe(error)).for_each(|error| complain(&error));
        Ok(Self::CheckFailed)
    }
}

/// Parses the command line, runs the verb, and maps the outcome to an exit code.
fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        // The help that was asked for is an output like others.
        Err(help) if !help.use_stderr() => return print_help(&help),
        // Without a verb: all of the help.
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => help.exit(),
        Err(error) => {
            output::write_stderr(&usage_error(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    init_log(verbosity(&matches));
    interrupt::watch();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.verb.run() {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::CheckFailed) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(interrupt::CODE),
        // The reader of our output went away: not an error of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn print_help(help: &clap::Error) -> ExitCode {
    match help.print().map_err(Error::output("writing", "standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// What is wrong with a command line and what to do next, a line each, of the paragraphs in which
/// clap says so.
fn usage_error(text: &str) -> String {
    let mut paragraphs =
        text.trim().split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    let wrong = paragraphs.next().unwrap_or_default();
    let others: Vec<_> = paragraphs.collect();
    let next = others.iter().find(|p| p.starts_with("tip:")).or(others.last());
    next.map_or(wrong.clone(), |next| format!("{wrong}\n{next}"))
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Output { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

fn complain(error: &Error) {
    output::write_stderr(&format!("error: {}", qmatmul_report::plain(&error.to_string())));
}

impl Verb {
    fn run(self) -> Result<Ending> {
        match self {
            Self::Devices(verb) => verb.run(),
            Self::Inspect(verb) => verb.run(),
            Self::Check(verb) => verb.run(),
            Self::Matmul(verb) => verb.run(),
            Self::Dequantize(verb) => verb.run(),
            Self::Quantize(verb) => verb.run(),
            Self::Bench(verb) => verb.run(),
            Self::Peak(verb) => verb.run(),
            Self::Tune(verb) => verb.run(),
            Self::Summary(verb) => verb.run(),
            Self::Shader(verb) => verb.run(),
            Self::Completions(verb) => verb.run(),
            Self::Man(verb) => verb.run(),
        }
    }
}

/// How many `-v` were given; none where a verb has no such option.
fn verbosity(matches: &ArgMatches) -> u8 {
    let of_verb = matches.subcommand().and_then(|(_, m)| m.try_get_one::<u8>("verbose").ok().flatten());
    of_verb.copied().unwrap_or(0)
}

/// Logs of wgpu and the driver, from the second `-v` on, or as `RUST_LOG` says.
fn init_log(verbose: u8) {
    let level = match verbose {
        0 | 1 => "off",
        2 => "warn",
        3 => "info",
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
