//! `qmatmul matmul FILE TENSOR` and `qmatmul dequantize FILE TENSOR`

use super::{Common, Verdict, lora};
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::output::{self, refuse_input};
use qmatmul::file::{Batch, Model, activations_from_stream, read_activations, write_f32, write_f32_to};
use qmatmul::gpu::Upload;
use qmatmul::kernel::reference;
use qmatmul::linear::Linear;
use qmatmul::tensor::check_finite;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Matmul {
    /// A model file or checkpoint
    file: PathBuf,
    /// Name of the tensor, or of the module without `.weight`
    tensor: String,
    /// Safetensors file with one tensor, or one named `x`: [n, k] or [k] in f32, f16 or bf16; `-`
    /// is standard input
    #[arg(short, long, value_name = "X")]
    input: PathBuf,
    /// Safetensors file to write, with `y`: [n, m] in f32; `-` is standard output
    #[arg(long, value_name = "Y")]
    output: PathBuf,
    /// Folder of an adapter as PEFT saves it, or one in GGUF, which adds s · (x · aᵀ) · bᵀ; may be
    /// given several times
    #[arg(long, value_name = "DIR|GGUF")]
    lora: Vec<PathBuf>,
    /// Leave out the bias, the tensor `<module>.bias` of the same file
    #[arg(long)]
    no_bias: bool,
}

impl Matmul {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let model = common.open(&self.file)?;
        model.refuse_as_output(&self.output)?;
        refuse_input(&self.output, [&*self.input].into_iter().filter(|input| input.is_file()))?;
        let linear = self.linear(common, &model)?;
        probe(&self.output)?;
        let options = common.options(Some(&model))?;
        let packed = linear.weight();
        let x = read(&self.input)?;
        if x.k != packed.cols() {
            let what =
                format!("activations `{}` for tensor `{}`", self.input.display(), shown(packed.name()));
            return Err(Error::shape(what, format!("{} columns", packed.cols()), x.k));
        }
        if x.k == 0 && x.n > 0 {
            let name = shown(packed.name());
            return Err(Error::Argument(format!(
                "tensor `{name}` has no columns, so there is nothing to multiply"
            )));
        }
        let y: Vec<f32> = if common.on_cpu() {
            check_finite(&format!("activations `{}`", self.input.display()), &x.data)?;
            linear.check_finite()?;
            reference::linear(&linear, &x.data, options.activations)?.into_iter().map(|y| y as f32).collect()
        } else {
            let runtime = common.runtime()?;
            runtime.matmul_layer(&runtime.upload_layer(&linear)?, &x.data, &options)?
        };
        check_finite("the result, beyond what f32 holds,", &y)?;
        write(&self.output, "y", &[x.n, packed.rows()], &y)?;
        Ok(Verdict::Fine)
    }

    /// The weight with its bias and what adapters add to it.
    fn linear(&self, common: &Common, model: &Model) -> Result<Linear> {
        let info = model.find(&self.tensor)?;
        let linear = match self.no_bias {
            true => model.linear_without_bias(info)?,
            false => model.linear(info)?,
        };
        if let Some(bias) = linear.bias() {
            common.say(&format!("with the bias `{}`", shown(bias.name())));
        }
        if let Some(kept) = linear.kept() {
            let (count, name) = (kept.columns().len(), shown(kept.weight().name()));
            common.say(&format!("with {count} columns of `{name}`"));
        }
        let adapters = lora::open(common, &self.lora)?;
        adapters.iter().try_for_each(|adapter| adapter.refuse_as_output(&self.output))?;
        let adapters = lora::on(common, &adapters, model)?;
        adapters.iter().try_fold(linear, |linear, adapter| lora::add(linear, adapter, info))
    }
}

#[derive(clap::Args)]
pub struct Dequantize {
    /// A model file or checkpoint
    file: PathBuf,
    /// Name of the tensor, or of the module without `.weight`
    tensor: String,
    /// Safetensors file to write, with `w`: [m, k] in f32; `-` is standard output
    #[arg(long, value_name = "W")]
    output: PathBuf,
}

impl Dequantize {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let model = common.open(&self.file)?;
        model.refuse_as_output(&self.output)?;
        let packed = model.tensor(model.find(&self.tensor)?)?;
        probe(&self.output)?;
        let w = if common.on_cpu() {
            packed.dequantize()
        } else {
            let runtime = common.runtime()?;
            let options = Upload { allow_non_finite: true, ..Upload::default() };
            runtime.dequantize(&runtime.upload_with(&packed, options)?)?
        };
        write(&self.output, "w", &[packed.rows(), packed.cols()], &w)?;
        Ok(Verdict::Fine)
    }
}

/// Activations from a file, or from standard input if it is called `-`.
fn read(path: &Path) -> Result<Batch> {
    if path != Path::new("-") {
        return read_activations(path);
    }
    activations_from_stream("standard input", &mut std::io::stdin().lock())
}

/// Fails if the output cannot be written, before there is anything to write.
fn probe(path: &Path) -> Result<()> {
    if path == Path::new("-") { Ok(()) } else { output::probe(path) }
}

/// One f32 tensor to a file that appears whole or not at all, or to standard output if it is called
/// `-`.
fn write(path: &Path, name: &str, shape: &[usize], data: &[f32]) -> Result<()> {
    match path == Path::new("-") {
        true => write_f32_to("standard output", &mut std::io::stdout().lock(), name, shape, data),
        false => write_f32(path, name, shape, data),
    }
}
