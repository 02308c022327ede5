//! `qmatmul matmul FILE TENSOR` and `qmatmul dequantize FILE TENSOR`

use super::options::{Common, Device, Files, Kernels, Numbers, Output};
use super::output::Results;
use super::{Ending, lora};
use qmatmul::PackedTensor;
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::output::{self, refuse_input};
use qmatmul::file::{Batch, Model, activations_from_stream, read_activations, write_f32, write_f32_to};
use qmatmul::gpu::{AdapterSummary, Upload};
use qmatmul::kernel::reference;
use qmatmul::linear::Linear;
use qmatmul::tensor::check_finite;
use qmatmul_report::{Cell, Column, Verdict, column};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Matmul {
    /// A model file or checkpoint
    file: PathBuf,
    /// Name of the tensor, or of the module without `.weight`
    tensor: String,
    /// Activations [n, k] or [k]: .npy, or .safetensors with one tensor or one named `x`; `-` is
    /// standard input
    #[arg(short, long, value_name = "X")]
    input: PathBuf,
    /// Safetensors file for `y` [n, m], f32; `-`: standard output
    #[arg(short = 'o', long = "output", value_name = "Y")]
    to: PathBuf,
    /// A LoRA adapter to add, as PEFT saves it or as GGUF
    #[arg(long, value_name = "DIR|GGUF")]
    lora: Vec<PathBuf>,
    /// Leave out the tensor `<module>.bias`
    #[arg(long)]
    no_bias: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    kernels: Kernels,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    output: Output,
}

/// Of the one row that says what was written.
const COLUMNS: &[Column] = &[
    column("tensor", "tensor"),
    column("format", "format"),
    column("shape", "shape"),
    column("output", "output"),
    column("output_shape", "output shape"),
];

impl Matmul {
    pub fn run(&self) -> Result<Ending> {
        let common = &Common {
            files: self.files.clone(),
            device: self.device.clone(),
            kernels: self.kernels.clone(),
            numbers: self.numbers.clone(),
            output: self.output.clone(),
            ..Common::default()
        };
        let on_cpu = common.on_cpu()?;
        let model = common.open(&self.file)?;
        model.refuse_as_output(&self.to)?;
        let streams = [&self.to, &self.input].iter().any(|path| **path == Path::new("-"));
        refuse_input(&self.to, [&*self.input].into_iter().filter(|input| !streams && input.is_file()))?;
        let linear = self.linear(common, &model)?;
        probe(&self.to)?;
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
        let mut device = None;
        let y: Vec<f32> = if on_cpu {
            check_finite(&format!("activations `{}`", self.input.display()), &x.data)?;
            linear.check_finite()?;
            reference::linear(&linear, &x.data, options.activations)?.into_iter().map(|y| y as f32).collect()
        } else {
            let runtime = common.runtime()?;
            device = Some(runtime.adapter().clone());
            runtime.matmul_layer(&runtime.upload_layer(&linear)?, &x.data, &options)?
        };
        check_finite("the result, beyond what f32 holds,", &y)?;
        let written = Written { to: &self.to, name: "y", shape: [x.n, packed.rows()] };
        written.write(&y)?;
        written.say(common, device.as_ref(), packed)
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
        adapters.iter().try_for_each(|adapter| adapter.refuse_as_output(&self.to))?;
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
    /// Safetensors file for `w` [m, k], f32; `-`: standard output
    #[arg(short = 'o', long = "output", value_name = "W")]
    to: PathBuf,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    output: Output,
}

impl Dequantize {
    pub fn run(&self) -> Result<Ending> {
        let common = &Common {
            files: self.files.clone(),
            device: self.device.clone(),
            output: self.output.clone(),
            ..Common::default()
        };
        let on_cpu = common.on_cpu()?;
        let model = common.open(&self.file)?;
        model.refuse_as_output(&self.to)?;
        let packed = model.tensor(model.find(&self.tensor)?)?;
        probe(&self.to)?;
        let mut device = None;
        let w = if on_cpu {
            packed.dequantize()
        } else {
            let runtime = common.runtime()?;
            device = Some(runtime.adapter().clone());
            let options = Upload { allow_non_finite: true, ..Upload::default() };
            runtime.dequantize(&runtime.upload_with(&packed, options)?)?
        };
        let written = Written { to: &self.to, name: "w", shape: [packed.rows(), packed.cols()] };
        written.write(&w)?;
        written.say(common, device.as_ref(), &packed)
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
    if is_shown(path) && std::io::stdout().is_terminal() {
        let path = path.display();
        return Err(Error::Argument(format!(
            "`-o {path}` would write binary data to a terminal: name a file, or send it to a program"
        )));
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        let path = path.display();
        return Err(Error::Argument(format!("`-o {path}`: safetensors files are written, no .npy")));
    }
    if path == Path::new("-") { Ok(()) } else { output::probe(path) }
}

/// True if standard output holds it, under whichever name, or may do so.
fn is_shown(path: &Path) -> bool {
    path == Path::new("-") || ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder))
}

/// One f32 tensor on its way to a file that appears whole or not at all, or to standard output if
/// it is called `-`.
struct Written<'a> {
    to: &'a Path,
    name: &'a str,
    shape: [usize; 2],
}

impl Written<'_> {
    fn is_stream(&self) -> bool {
        self.to == Path::new("-")
    }

    fn write(&self, data: &[f32]) -> Result<()> {
        match self.is_stream() {
            true => {
                write_f32_to("standard output", &mut std::io::stdout().lock(), self.name, &self.shape, data)
            }
            false => write_f32(self.to, self.name, &self.shape, data),
        }
    }

    /// Says what was written, where standard output does not hold it.
    fn say(&self, common: &Common, device: Option<&AdapterSummary>, packed: &PackedTensor) -> Result<Ending> {
        if is_shown(self.to) {
            return Ok(Ending::Fine);
        }
        let (to, [rows, columns]) = (self.to.display().to_string(), self.shape);
        let mut results = Results::begin(&common.output, device, COLUMNS)?;
        results.row(vec![
            packed.name().into(),
            packed.format().name.into(),
            Cell::shape(&[packed.rows() as u64, packed.cols() as u64]),
            to.clone().into(),
            Cell::shape(&[rows as u64, columns as u64]),
        ])?;
        let text = format!("{} [{rows}, {columns}] in {to}", self.name);
        results.end(&Verdict { tensors: Some(1), ..Verdict::ok(text) })?;
        Ok(Ending::Fine)
    }
}
