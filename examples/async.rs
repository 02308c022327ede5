//! A product by the calls for async hosts: open, upload, bind and run each return a future, which is
//! `Send` and `'static`. The executor here is pollster; any other will do.
//!
//!     cargo run --example async

use qmatmul::gpu::{Slice, Tokens};
use qmatmul::wgpu::util::DeviceExt;
use qmatmul::{MatmulOptions, PackedTensor, Recipe, Runtime, check, format, kernel::reference, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(product())
}

async fn product() -> Result<(), Box<dyn std::error::Error>> {
    let [m, k, n] = [96, 256, 3]; // outputs, features, tokens
    let weights = check::activations(m * k, 1); // random, normally distributed
    let packed = PackedTensor::encode("w", [m, k], &weights, &Recipe::new(format::Q4_0))?;
    let x = check::activations(n * k, 2); // [n, k]

    let gpu = Runtime::new_async().await?;
    let w = gpu.upload_async(&packed).await?;
    let mut program = gpu.program(Tokens::UpTo(n));
    let (input, output) = (program.slot("x", k), program.slot("y", m));
    program.matmul(&w, input, output, &MatmulOptions::default())?;
    let [x_buffer, y_buffer] = [&x[..], &vec![0.0; n * m]].map(|values| buffer(&gpu, values));
    let slots = [(input, Slice::from(&x_buffer)), (output, Slice::from(&y_buffer))];
    let bound = gpu.bind_async(&program, &slots).await?;
    bound.run_async(n).await?;
    let y: Vec<f32> = gpu.read_async(&Slice::from(&y_buffer)).await?;

    let right = check::compare(&y, &reference::matmul(&packed, &x)?, check::NMSE_F32);
    println!("{n} tokens x {m} x {k}: {right} on {}", gpu.adapter());
    if right.passed { Ok(()) } else { Err("the product is wrong".into()) }
}

/// A buffer that a program can bind and that can be copied.
fn buffer(gpu: &Runtime, values: &[f32]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
    })
}
