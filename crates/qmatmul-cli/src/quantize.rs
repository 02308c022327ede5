//! `qmatmul quantize IN OUT --type TYPE`

use super::output::Table;
use super::{Common, Verdict, progress};
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::gguf_write::Destination;
use qmatmul::file::{self, Captures, Keep, QuantizeOptions, Report, Target, output};
use qmatmul::format::bnb4::is_four_bit;
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::format::{self, Coding, FORMATS, Format};
use qmatmul::gpu::Runtime;
use qmatmul::kernel::Threshold;
use qmatmul::{PackedTensor, Recipe};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Quantize {
    /// A model in F32, F16 or BF16: GGUF, or safetensors for NF4, FP4, INT8 and with `--bare`
    input: PathBuf,
    /// The GGUF file to write; for NF4, FP4 and INT8 the folder of a checkpoint as transformers and
    /// bitsandbytes open it
    output: PathBuf,
    /// Format of the weight matrices; everything else is copied. `nf4-dq` and `fp4-dq` quantize the
    /// scales, too
    #[arg(long = "type", value_name = "TYPE")]
    format: String,
    /// Weights that share a scale in NF4 and FP4: a power of two from 32 to 4096
    #[arg(long, value_name = "WEIGHTS")]
    block: Option<usize>,
    /// INT8: some input columns of each weight in 16 bits as well, which this command multiplies
    /// instead of their codes (bitsandbytes does not read them). FILE: a safetensors file of
    /// activations [n, k], named after modules (`<module>` or `<module>.x`), or one tensor or one
    /// named `x` for all weights with its k; columns that reach the threshold in any row are kept.
    /// COUNT: so many columns with the weights of largest magnitude, which is the weaker choice, as
    /// outliers are a matter of activations
    #[arg(long, value_name = "FILE|COUNT")]
    keep_outliers: Option<String>,
    /// GGUF: parts OUTPUT-00001-of-0000N.gguf of at most so many bytes, unless one tensor alone is
    /// larger: a number, with K, M or G for powers of 1000, as in `4G`
    #[arg(long, value_name = "SIZE", value_parser = super::decimal_size)]
    split_max_size: Option<u64>,
    /// GGUF: the output matrix in TYPE, too, and the embedding where it is both. Otherwise it
    /// becomes Q8_0
    #[arg(long)]
    pure: bool,
    /// The weights alone, for this command: of a checkpoint as a GGUF, under the names that they
    /// have there and without architecture and tokenizer; as NF4, FP4 or INT8, all matrices of a
    /// model that transformers does not know
    #[arg(long)]
    bare: bool,
    /// GGUF: encode weights that are packed already, from what they decode to; what both formats
    /// lose adds up
    #[arg(long)]
    allow_requantize: bool,
}

impl Quantize {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let (format, double) = self.format()?;
        let target = self.target(common, format, double)?;
        let options =
            QuantizeOptions { pure: self.pure, bare: self.bare, allow_requantize: self.allow_requantize };
        // Before hours of work, not after.
        match (&target, self.split_max_size) {
            (Some(_), _) => output::probe_folder(&self.output)?,
            (None, None) => output::probe(&self.output)?,
            (None, Some(_)) => output::probe_folder(self.output.parent().unwrap_or(Path::new("")))?,
        }
        let model = common.open(&self.input)?;
        let bar = progress::bar(model.tensors().len() as u64, common.quiet);
        let progress = |at: usize, tensor: &file::TensorInfo| {
            bar.set_position(at as u64);
            bar.set_message(shown(&tensor.name));
        };
        let runtime = self.device(common, target.as_ref())?;
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
        print(common, &report)?;
        Ok(Verdict::Fine)
    }

    /// The device that encodes, where one is named and can.
    fn device(&self, common: &Common, target: Option<&Target>) -> Result<Option<Runtime>> {
        match &common.device {
            Some(device) if !common.on_cpu() => match target {
                Some(_) => common.runtime().map(Some),
                None => Err(Error::Argument(format!(
                    "`--device {device}` has no effect on `--type {}`: devices encode NF4, FP4 and INT8, the CPU all other types",
                    self.format
                ))),
            },
            _ => Ok(None),
        }
    }

    /// What becomes of a checkpoint; none for GGUF.
    fn target(&self, common: &Common, format: &'static Format, double: bool) -> Result<Option<Target>> {
        let int8 = is_int8(format);
        let refuse = |what| Err(Error::Argument(format!("{what} {}", format.name)));
        if self.block.is_some() && (int8 || format.blocks().is_some()) {
            return refuse("blocks have a fixed size in");
        }
        if self.split_max_size.is_some() && matches!(format.coding, Coding::Parts(_)) {
            return refuse("--split-max-size is for GGUF files, which cannot hold");
        }
        if (common.int8_threshold.is_some() || self.keep_outliers.is_some()) && !int8 {
            return refuse("--int8-threshold and --keep-outliers are for INT8, not for");
        }
        if format.blocks().is_none() && (self.pure || self.allow_requantize) {
            return refuse("--pure and --allow-requantize are for GGUF files, not for");
        }
        let block = self.block.unwrap_or(FourBitConfig::default().block);
        Ok(match format.coding {
            Coding::Blocks(_) => None,
            Coding::Parts(_) if int8 => Some(self.int8(common)?),
            Coding::Parts(_) => {
                Some(Target::FourBit(format, FourBitConfig { block, double, ..FourBitConfig::default() }))
            }
        })
    }

    fn int8(&self, common: &Common) -> Result<Target> {
        let threshold =
            Threshold::new(common.int8_threshold.unwrap_or(Threshold::default().value()))?.value();
        let keep = match &self.keep_outliers {
            None => Keep::Nothing,
            Some(text) => match text.parse() {
                Ok(count) => Keep::Largest(count),
                Err(_) => Keep::Captured(Captures::open(text.as_ref(), threshold)?),
            },
        };
        Ok(Target::Int8 { threshold, keep })
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

fn is_int8(format: &Format) -> bool {
    format.name == "INT8"
}

/// True if there is an encoder, and a file to put its bytes into.
fn writable(format: &Format) -> bool {
    is_four_bit(format) || is_int8(format) || format.gguf_type.is_some() && format.has_encoder()
}

fn print(common: &Common, report: &Report) -> Result<()> {
    let mut table = Table::new(&["tensor", "from", "to", "why not"]);
    for t in &report.tensors {
        let why = t.left_because.clone().unwrap_or_default();
        table.push(vec![t.name.clone().into(), t.from.name().into(), t.to.name().into(), why.into()]);
    }
    table.print(common.style)?;
    let kept = report.tensors.iter().map(|t| t.kept_columns).filter(|columns| *columns > 0);
    if let count @ 1.. = kept.clone().count() {
        common.say(&format!("{} columns of {count} weights are in 16 bits as well", kept.sum::<usize>()));
    }
    report.warnings.iter().for_each(|warning| common.say(&format!("warning: {warning}")));
    common.say(&format!("tensors: {} bytes before, {} after", report.bytes_before, report.bytes_after));
    Ok(())
}
