//! The outlier problem of eight-bit activations, on a real layer: a few columns are so much larger
//! than the others that a scale for a whole row leaves nothing of the rest. LLM.int8 takes those
//! columns out of the integers.
//!
//!     cargo run --release --example llm_int8 [FILE…]
//!
//! A FILE is a safetensors file with `x` [n, k] and `weight` [m, k], and may hold `y` [n, m] and a
//! `bias` that is part of it.

use qmatmul::file::{Model, OpenOptions};
use qmatmul::kernel::{Threshold, reference};
use qmatmul::{
    Activations, Error, Linear, MatmulOptions, OutlierColumns, PackedTensor, Recipe, Result, Runtime, format,
};

const DEFAULT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/llm_int8/minilm_l3_ffn_up.safetensors");

fn main() -> Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let files = if files.is_empty() { vec![DEFAULT.to_owned()] } else { files };
    let gpu = Runtime::new()?;
    let adapter = gpu.adapter();
    println!("device: {} ({}, {})", adapter.name, adapter.backend, adapter.driver);
    files.iter().try_for_each(|file| show(&gpu, &Layer::open(file)?))
}

/// A layer and what went in and came out.
struct Layer {
    file: String,
    weight: PackedTensor,
    x: Vec<f32>,
    /// `x · weightᵀ`
    y: Vec<f64>,
}

impl Layer {
    fn open(file: &str) -> Result<Self> {
        let model = Model::open(file, &OpenOptions::default())?;
        let tensor = |name: &str| model.tensor(model.find(name)?);
        let (weight, x) = (tensor("weight")?, tensor("x")?.dequantize());
        let y = match tensor("y") {
            Err(Error::NotFound { .. }) => reference::matmul(&weight, &x)?,
            y => {
                let bias = tensor("bias").map_or(vec![0.0; weight.rows()], |bias| bias.dequantize());
                let pairs = y?.dequantize().into_iter().zip(bias.into_iter().cycle());
                pairs.map(|(y, bias)| f64::from(y) - f64::from(bias)).collect()
            }
        };
        Ok(Self { file: file.to_owned(), weight, x, y })
    }

    /// `sqrt(Σ (y − wanted)² / Σ wanted²)` in percent.
    fn error(&self, y: &[f32]) -> f64 {
        let off: f64 = y.iter().zip(&self.y).map(|(got, want)| (f64::from(*got) - want).powi(2)).sum();
        100.0 * (off / self.y.iter().map(|want| want * want).sum::<f64>()).sqrt()
    }

    /// Some columns of the weight as they were before it was quantized.
    fn kept(&self, columns: &[u32]) -> Result<OutlierColumns> {
        let f16 = format::F16;
        let weights = self.weight.dequantize();
        let row = |row: &[f32]| columns.iter().map(|column| row[*column as usize]).collect::<Vec<_>>();
        let values: Vec<f32> = weights.chunks(self.weight.cols()).flat_map(row).collect();
        let packed =
            PackedTensor::encode("kept", [self.weight.rows(), columns.len()], &values, &Recipe::new(f16))?;
        OutlierColumns::new(columns.to_vec(), packed)
    }
}

fn show(gpu: &Runtime, layer: &Layer) -> Result<()> {
    let (m, k) = (layer.weight.rows(), layer.weight.cols());
    let top = layer.x.iter().fold(0f32, |top, v| top.max(v.abs()));
    let int8 = format::INT8;
    let packed = gpu.encode("weight", [m, k], &layer.weight.dequantize(), &Recipe::new(int8))?;
    let weights = gpu.upload(&packed)?;
    println!("\n{}\nweight {m} x {k}, {} rows of activations up to {top:.1}", layer.file, layer.x.len() / k);
    let exact = layer.error(&gpu.matmul(&weights, &layer.x)?);
    println!("INT8 weights, activations as they are: off by {exact:.2} %\n");
    println!("| threshold | columns in 16 bits | share | LLM.int8 | with those columns of the weight kept |");
    println!("|----------:|-------------------:|------:|---------:|--------------------------------------:|");
    for threshold in [0.0, 3.0, 4.5, 6.0, 9.0] {
        let threshold = Threshold::new(threshold)?;
        let options = MatmulOptions::with(Activations::Int8(threshold));
        let columns = gpu.quantize_activations(&weights, &layer.x, threshold)?.outliers;
        let plain = layer.error(&gpu.matmul_with(&weights, &layer.x, &options)?);
        let kept = if columns.is_empty() {
            "–".to_owned()
        } else {
            let linear = Linear::new(packed.clone()).with_kept(layer.kept(&columns)?)?;
            let y = gpu.matmul_layer(&gpu.upload_layer(&linear)?, &layer.x, &options)?;
            format!("{:.2} %", layer.error(&y))
        };
        let (count, share) = (columns.len(), 100.0 * columns.len() as f64 / k as f64);
        let name = if threshold.is_some() { threshold.value().to_string() } else { "none".into() };
        println!("| {name:>9} | {count:>18} | {share:>4.1}% | {plain:>6.2} % | {kept:>37} |");
    }
    Ok(())
}
