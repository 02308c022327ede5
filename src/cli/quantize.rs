//! `qmatmul quantize IN OUT --type TYPE`

use super::output::Table;
use super::{Common, Verdict, progress};
use crate::error::{Error, Result};
use crate::file;
use crate::format::{self, FORMATS};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Quantize {
    /// A model in F32, F16 or BF16: GGUF or safetensors
    input: PathBuf,
    /// The GGUF file to write
    output: PathBuf,
    /// Format of the weight matrices; everything else is copied
    #[arg(long = "type", value_name = "TYPE")]
    format: String,
}

impl Quantize {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let writable =
            || FORMATS.iter().filter(|f| f.has_encoder()).map(|f| f.name).collect::<Vec<_>>().join(", ");
        let format = format::by_name(&self.format).ok_or_else(|| {
            Error::Argument(format!(
                "no format is called `{}`; those that can be written: {}",
                self.format,
                writable()
            ))
        })?;
        let model = common.open(&self.input)?;
        let bar = progress::bar(model.tensors().len() as u64, common.quiet);
        let report = file::quantize(&model, &self.output, format, |at, tensor| {
            bar.set_position(at as u64);
            bar.set_message(tensor.name.clone());
        })?;
        bar.finish_and_clear();
        let mut table = Table::new(&["tensor", "from", "to", "why not"]);
        for t in &report.tensors {
            let why = t.why_not.clone().unwrap_or_default();
            table.push(vec![t.name.clone().into(), t.from.name().into(), t.to.name().into(), why.into()]);
        }
        table.print(common.style)?;
        common.say(&format!("tensors: {} bytes before, {} after", report.bytes_before, report.bytes_after));
        Ok(Verdict::Fine)
    }
}
