//! A product on the device: weights are encoded, uploaded and multiplied, and the result is compared
//! with the CPU reference.
//!
//!     cargo run --example matmul

use qmatmul::{MatmulOptions, PackedTensor, Recipe, Runtime, check, format, kernel::reference};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [m, k, n] = [96, 256, 3]; // outputs, features, tokens
    let weights = check::activations(m * k, 1); // random, normally distributed
    let packed = PackedTensor::encode("w", [m, k], &weights, &Recipe::new(format::Q4_0))?;

    let gpu = Runtime::new()?;
    let w = gpu.upload(&packed)?; // packed in device memory, too
    let x = check::activations(n * k, 2); // [n, k]
    let y = gpu.matmul(&w, &x)?; // [n, m]

    let right = check::compare(&y, &reference::matmul(&packed, &x)?, check::NMSE_F32);
    let kernels = gpu.kernels(&w, n, &MatmulOptions::default())?;
    println!("{n} tokens x {m} x {k} by {kernels}: {right} on {}", gpu.adapter());
    if right.passed { Ok(()) } else { Err("the product is wrong".into()) }
}
