//! `qmatmul quantize IN OUT --type TYPE`

use super::output::{Table, plain};
use super::{Common, Verdict, progress};
use crate::error::{Error, Result};
use crate::file::{self, Report};
use crate::format::four_bit::{self, Recipe};
use crate::format::{self, Coding, FORMATS, Format};
use crate::tensor::PackedTensor;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Quantize {
    /// A model in F32, F16 or BF16: GGUF or safetensors
    input: PathBuf,
    /// The GGUF file to write; for NF4 and FP4 the folder of a checkpoint as transformers and bitsandbytes open it
    output: PathBuf,
    /// Format of the weight matrices; everything else is copied. `nf4-dq` and `fp4-dq` quantize the scales, too
    #[arg(long = "type", value_name = "TYPE")]
    format: String,
    /// Weights that share a scale in NF4 and FP4: a power of two from 32 to 4096
    #[arg(long, value_name = "WEIGHTS")]
    block: Option<usize>,
}

impl Quantize {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let (format, double) = self.format()?;
        if self.block.is_some() && format.blocks().is_some() {
            return Err(Error::Argument(format!("the blocks of {} have a fixed size", format.name)));
        }
        let model = common.open(&self.input)?;
        let bar = progress::bar(model.tensors().len() as u64, common.quiet);
        let progress = |at: usize, tensor: &file::TensorInfo| {
            bar.set_position(at as u64);
            bar.set_message(plain(&tensor.name));
        };
        let report = match format.coding {
            Coding::Blocks(_) => file::quantize(&model, &self.output, format, progress)?,
            Coding::Parts(_) => {
                let block = self.block.unwrap_or(Recipe::default().block);
                let recipe = Recipe { block, double, ..Recipe::default() };
                let device = common.device.is_some() && !common.on_cpu();
                let runtime = device.then(|| common.runtime()).transpose()?;
                let encode = |name: &str, format, shape, weights: &[f32], recipe| match &runtime {
                    Some(runtime) => runtime.encode_four_bit(name, format, shape, weights, recipe),
                    None => PackedTensor::encode_four_bit(name, format, shape, weights, recipe),
                };
                file::quantize_checkpoint(&model, &self.output, format, recipe, &encode, progress)?
            }
        };
        bar.finish_and_clear();
        print(common, &report)?;
        Ok(Verdict::Fine)
    }

    /// The format, and whether its scales are to be quantized.
    fn format(&self) -> Result<(&'static Format, bool)> {
        let name = self.format.to_lowercase();
        let (name, double) = match name.strip_suffix("-dq").or(name.strip_suffix("_dq")) {
            Some(name) => (name, true),
            None => (&*name, false),
        };
        let format = format::by_name(name).filter(|f| if double { four_bit(f) } else { writable(f) });
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

fn four_bit(format: &Format) -> bool {
    four_bit::table(format).is_some()
}

/// True if there is an encoder, and a file to put its bytes into.
fn writable(format: &Format) -> bool {
    four_bit(format) || format.gguf_type.is_some() && format.has_encoder()
}

fn print(common: &Common, report: &Report) -> Result<()> {
    let mut table = Table::new(&["tensor", "from", "to", "why not"]);
    for t in &report.tensors {
        let why = t.why_not.clone().unwrap_or_default();
        table.push(vec![t.name.clone().into(), t.from.name().into(), t.to.name().into(), why.into()]);
    }
    table.print(common.style)?;
    common.say(&format!("tensors: {} bytes before, {} after", report.bytes_before, report.bytes_after));
    Ok(())
}
