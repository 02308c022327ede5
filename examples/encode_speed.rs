//! How long NF4 and FP4 take to encode on the CPU and on a device, medians of seven: `cargo run --release --example encode_speed`
//!
//! `WGPU_BACKEND` and `WGPU_ADAPTER_NAME` choose the device. `docs/lab` has figures.

use qmatmul::check;
use qmatmul::format::{FP4, Format, NF4};
use qmatmul::{PackedTensor, Recipe, Result, Runtime, wgpu};
use std::time::Instant;

/// Rows and columns of the down projection of a model of 8 billion weights.
const SHAPE: [usize; 2] = [4096, 14_336];

fn main() -> Result<()> {
    let [m, k] = SHAPE;
    let weights = check::activations(m * k, 1);
    let runtime = Runtime::new()?;
    println!("device: {}", runtime.adapter().name);
    for format in [NF4, FP4] {
        let name = format.name;
        time(&format!("{name} on the CPU"), || {
            PackedTensor::encode("w", SHAPE, &weights, &Recipe::new(format))
        })?;
        let what = format!("{name} on the device, with both copies");
        time(&what, || runtime.encode("w", SHAPE, &weights, &Recipe::new(format)))?;
        from_buffer(&runtime, format, &weights)?;
    }
    Ok(())
}

/// Of weights that lie on the device.
fn from_buffer(runtime: &Runtime, format: &'static Format, weights: &[f32]) -> Result<()> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let size = (weights.len() * 4) as u64;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let buffer = runtime.device().create_buffer(&descriptor);
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    runtime.queue().write_buffer(&buffer, 0, &bytes);
    time(&format!("{} on the device, from a buffer there", format.name), || {
        runtime.encode("w", SHAPE, &buffer, &Recipe::new(format))
    })
}

/// Runs once to warm up, then seven times.
fn time(what: &str, run: impl Fn() -> Result<PackedTensor>) -> Result<()> {
    run()?;
    let mut seconds = [0.0; 7];
    for second in &mut seconds {
        let start = Instant::now();
        run()?;
        *second = start.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    println!("{what}: {:.1} ms, best {:.1} ms", seconds[3] * 1e3, seconds[0] * 1e3);
    Ok(())
}
