//! `qmatmul quantize IN OUT --type TYPE`

use super::options::{Common, Device, Files, Output, file_size, listed, no_effect, output_file};
use super::output::Results;
use super::{Ending, progress};
use clap::builder::TypedValueParser;
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::gguf_write::Destination;
use qmatmul::file::{self, Captures, Keep, QuantizeOptions, Report, Target, output};
use qmatmul::format::bnb4::is_four_bit;
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::format::{self, Coding, FORMATS, Format};
use qmatmul::gpu::Runtime;
use qmatmul::kernel::Threshold;
use qmatmul::{PackedTensor, Recipe};
use qmatmul_report::{Cell, Column, Verdict, column, human_bytes};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Quantize {
    /// A model in F32, F16 or BF16: a GGUF or a checkpoint
    input: PathBuf,
    /// A GGUF; for NF4, FP4 and INT8 a checkpoint folder
    #[arg(value_parser = output_file)]
    output: PathBuf,
    /// Format of the matrices, as q8_0 or nf4-dq
    #[arg(long = "type", value_name = "TYPE", value_parser = types(), hide_possible_values = true)]
    format: String,
    /// NF4, FP4: weights that share a scale
    #[arg(long, value_name = "N")]
    block: Option<usize>,
    /// INT8: size of outliers, 0 for none [default: 6]
    #[arg(long, value_name = "X")]
    int8_threshold: Option<f32>,
    /// INT8: columns in 16 bits, too: so many, or those
    /// with outliers in a file of activations
    #[arg(long, value_name = "FILE|N")]
    keep_outliers: Option<String>,
    /// GGUF: parts of at most this size, as in 4G
    #[arg(long, value_name = "SIZE", value_parser = file_size)]
    split_max_size: Option<u64>,
    /// GGUF: the output matrix in TYPE, not Q8_0
    #[arg(long)]
    pure: bool,
    /// The weights alone, of any model, for qmatmul only
    #[arg(long)]
    bare: bool,
    /// GGUF: encode weights that are packed already
    #[arg(long)]
    allow_requantize: bool,
    /// Threads of the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    printed: Output,
}

/// A row for each tensor.
const COLUMNS: &[Column] = &[
    column("tensor", "tensor"),
    column("from", "from"),
    column("to", "to"),
    column("error", "nmse"),
    column("left_because", "left because"),
];

impl Quantize {
    pub fn run(&self) -> Result<Ending> {
        let common = &Common {
            files: self.files.clone(),
            device: self.device.clone(),
            output: self.printed.clone(),
            ..Common::default()
        };
        let (format, double) = self.format()?;
        let target = self.target(format, double)?;
        let options =
            QuantizeOptions { pure: self.pure, bare: self.bare, allow_requantize: self.allow_requantize };
        if let Some(threads) = self.threads {
            // The first use of the pool, which is the process's own: nobody has set it before.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
            pool.build_global().map_err(|e| Error::Argument(format!("--threads {threads}: {e}")))?;
        }
        let encodes_on_device = self.encodes_on_device(common, target.as_ref())?;
        // Before hours of work, not after.
        match (&target, self.split_max_size) {
            (Some(_), _) => output::probe_folder(&self.output)?,
            (None, None) => output::probe(&self.output)?,
            (None, Some(_)) => output::probe_folder(self.output.parent().unwrap_or(Path::new("")))?,
        }
        let model = common.open(&self.input)?;
        let bar = progress::bar(model.tensors().len() as u64, common.output.quiet);
        let progress = |at: usize, tensor: &file::TensorInfo| {
            bar.set_position(at as u64);
            bar.set_message(shown(&tensor.name));
        };
        let runtime = if encodes_on_device { Some(common.runtime()?) } else { None };
        let results = Results::begin(&common.output, runtime.as_ref().map(Runtime::adapter), COLUMNS)?;
        let report = match &target {
            None => {
                let out = Destination::in_parts(&self.output, self.split_max_size);
                file::quantize(&model, out, &Recipe::new(format), &options, progress)?
            }
            Some(target) => {
                let encode = |name: &str, shape, weights: &[f32], recipe: &Recipe| match &runtime {
                    None => PackedTensor::encode(name, shape, weights, recipe),
                    Some(runtime) => runtime.encode(name, shape, weights, recipe),
                };
                file::quantize_checkpoint(&model, &self.output, target, &options, &encode, progress)?
            }
        };
        bar.finish_and_clear();
        self.print(common, results, &report)?;
        Ok(Ending::Fine)
    }

    /// True if a device was named that can encode.
    ///
    /// # Errors
    /// [`Error::Argument`] if one was named that cannot, or something is said of none.
    fn encodes_on_device(&self, common: &Common, target: Option<&Target>) -> Result<bool> {
        if common.on_cpu()? {
            return Ok(false);
        }
        match (&self.device.device, target, self.device.detail()) {
            (Some(_), Some(_), _) => Ok(true),
            (Some(device), None, _) => {
                let why = "devices encode NF4, FP4 and INT8, the CPU all other types";
                Err(no_effect(&format!("`--device {device}`"), format!("on `--type {}`: {why}", self.format)))
            }
            (None, _, Some(option)) => Err(no_effect(option, "without `--device`: the CPU encodes")),
            (None, _, None) => Ok(false),
        }
    }

    /// What becomes of a checkpoint; none for GGUF.
    fn target(&self, format: &'static Format, double: bool) -> Result<Option<Target>> {
        let int8 = is_int8(format);
        let refuse = |what| Err(Error::Argument(format!("{what} {}", format.name)));
        if self.block.is_some() && (int8 || format.blocks().is_some()) {
            return refuse("blocks have a fixed size in");
        }
        if self.split_max_size.is_some() && matches!(format.coding, Coding::Parts(_)) {
            return refuse("--split-max-size is for GGUF files, which cannot hold");
        }
        if (self.int8_threshold.is_some() || self.keep_outliers.is_some()) && !int8 {
            return refuse("--int8-threshold and --keep-outliers are for INT8, not for");
        }
        if format.blocks().is_none() && (self.pure || self.allow_requantize) {
            return refuse("--pure and --allow-requantize are for GGUF files, not for");
        }
        let block = self.block.unwrap_or(FourBitConfig::default().block);
        Ok(match format.coding {
            Coding::Blocks(_) => None,
            Coding::Parts(_) if int8 => Some(self.int8()?),
            Coding::Parts(_) => {
                Some(Target::FourBit(format, FourBitConfig { block, double, ..FourBitConfig::default() }))
            }
        })
    }

    fn int8(&self) -> Result<Target> {
        let threshold = Threshold::new(self.int8_threshold.unwrap_or(Threshold::default().value()))?.value();
        let keep = match &self.keep_outliers {
            None => Keep::Nothing,
            Some(text) => match text.parse() {
                Ok(count) => Keep::Largest(count),
                Err(_) => Keep::Captured(Captures::open(text.as_ref(), threshold)?),
            },
        };
        Ok(Target::Int8 { threshold, keep })
    }

    fn print(&self, common: &Common, mut results: Results, report: &Report) -> Result<()> {
        for t in &report.tensors {
            results.row(vec![
                t.name.clone().into(),
                t.from.name().into(),
                t.to.name().into(),
                t.error.map_or(Cell::Empty, Cell::Tiny),
                t.left_because.clone().into(),
            ])?;
        }
        let kept = report.tensors.iter().map(|t| t.kept_columns).filter(|columns| *columns > 0);
        if let count @ 1.. = kept.clone().count() {
            let columns = kept.sum::<usize>();
            common.say(&format!("{columns} columns of {count} weights are in 16 bits as well"));
        }
        report.warnings.iter().for_each(|warning| common.say(&format!("warning: {warning}")));
        let to = match (self.split_max_size, self.output.file_stem()) {
            (Some(_), Some(stem)) => {
                let name = format!("{}-*-of-*.gguf", stem.to_string_lossy());
                self.output.with_file_name(name).display().to_string()
            }
            _ => self.output.display().to_string(),
        };
        let encoded = report.tensors.iter().filter(|t| t.left_because.is_none()).count();
        let text = format!(
            "{encoded} of {} tensors encoded, {} -> {}: {to}",
            report.tensors.len(),
            human_bytes(report.bytes_before),
            human_bytes(report.bytes_after)
        );
        results.end(&Verdict { tensors: Some(report.tensors.len()), ..Verdict::ok(text) })
    }

    /// The format, and whether its scales are to be quantized.
    fn format(&self) -> Result<(&'static Format, bool)> {
        let name = self.format.to_lowercase();
        let (name, double) = match name.strip_suffix("-dq").or(name.strip_suffix("_dq")) {
            Some(name) => (name, true),
            None => (&*name, false),
        };
        let format = format::by_name(name).filter(|f| if double { is_four_bit(f) } else { writable(f) });
        let format = format.ok_or_else(|| {
            let names = FORMATS.iter().filter(|f| writable(f)).map(|f| f.name).collect::<Vec<_>>();
            let (name, names) = (&self.format, names.join(", "));
            Error::Argument(format!(
                "`{name}` is none of the types that can be written: {names}, NF4-DQ, FP4-DQ"
            ))
        })?;
        Ok((format, double))
    }
}

/// The types that there is an encoder and a file for, as completions list them; others are an error
/// that names them all.
fn types() -> impl TypedValueParser<Value = String> {
    let names = FORMATS.iter().filter(|f| writable(f)).map(|f| f.name).chain(["NF4-DQ", "FP4-DQ"]);
    listed(names.map(str::to_owned).collect())
}

fn is_int8(format: &Format) -> bool {
    format.name == "INT8"
}

/// True if there is an encoder, and a file to put its bytes into.
fn writable(format: &Format) -> bool {
    is_four_bit(format) || is_int8(format) || format.gguf_type.is_some() && format.has_encoder()
}
