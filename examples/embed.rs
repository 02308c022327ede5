//! A layer of a GGUF model in a host's own device and encoder: its matmuls, bound once, recorded for
//! 1 and for 5 tokens, compared with the CPU. No norms; queries stand in for the attention's output.
//!
//!     cargo run --example embed [FILE [LAYER]]

use qmatmul::file::{Model, OpenOptions};
use qmatmul::gpu::{self, Program, Slice, Tokens, View};
use qmatmul::wgpu;
use qmatmul::{MatmulOptions, Options, PackedTensor, Result, Runtime, Weights, check, kernel::reference};

const PARTS: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or("tests/data/storybook-3.7M-Q4_K_M.gguf".into());
    let layer = std::env::args().nth(2).unwrap_or("2".into()); // there v and down are Q6_K, the others Q4_K
    let model = Model::open(file, &OpenOptions::default())?;
    let tensor = |part| model.tensor(model.find(&format!("blk.{layer}.{part}.weight"))?);
    let [q, k, v, o, gate, up, down] = PARTS.map(tensor);
    let packed = [q?, k?, v?, o?, gate?, up?, down?];

    let adapter = pollster::block_on(wgpu::Instance::default().request_adapter(&Default::default()))?;
    let (required_features, required_limits) = (gpu::wanted_features(&adapter), gpu::wanted_limits(&adapter));
    let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    let gpu = Runtime::with_device(device.clone(), queue.clone(), &adapter, &Options::default())?;
    let [q, k, v, o, gate, up, down] = packed.each_ref().map(|tensor| gpu.upload(tensor));
    let (program, slots) = layer_of(&gpu, &[q?, k?, v?, o?, gate?, up?, down?])?;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let buffers = slots.map(|slot| {
        let (label, size) = (None, program.bytes(slot));
        device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    });
    let bound = gpu.bind(&program, &[0, 1, 2, 3].map(|i| (slots[i], Slice::from(&buffers[i]))))?;
    for n in [1, 5] {
        let x = check::activations(n * slots[0].width(), n as u64);
        queue.write_buffer(&buffers[0], 0, bytemuck::cast_slice(&x));
        let mut encoder = device.create_command_encoder(&Default::default());
        bound.record(&mut encoder.begin_compute_pass(&Default::default()), n)?;
        queue.submit([encoder.finish()]);
        for (want, buffer) in on_cpu(&packed, &x)?.iter().zip(&buffers) {
            let got: Vec<f32> = gpu.read(&Slice::from(buffer))?;
            let right = check::compare(&got[..want.len()], want, check::NMSE_F32);
            assert!(right.passed, "n = {n}: {right}");
        }
        println!("n = {n}: {} dispatches, right on {}", bound.dispatch_count(n), gpu.adapter());
    }
    Ok(())
}

/// The layer for up to 8 tokens, and its slots: the residual stream x, queries, keys and values.
fn layer_of(gpu: &Runtime, [q, k, v, o, gate, up, down]: &[Weights; 7]) -> Result<(Program, [View; 4])> {
    let (mut layer, exact) = (gpu.program(Tokens::UpTo(8)), &MatmulOptions::default());
    let x = layer.slot("x", q.cols());
    let [qs, ks, vs] = [("q", q), ("k", k), ("v", v)].map(|(name, w)| layer.slot(name, w.rows()));
    let [gates, hidden] = ["gate", "hidden"].map(|name| layer.scratch(name, up.rows()));
    layer.matmul(q, x, qs, exact)?; // these three share x, whatever the formats of the weights
    layer.matmul(k, x, ks, exact)?;
    layer.matmul(v, x, vs, exact)?;
    layer.matmul_add(o, qs, x, exact)?; // x += …
    layer.matmul(gate, x, gates, exact)?;
    layer.matmul_gated(up, x, gates, hidden, exact)?; // hidden = silu(gates) ⊙ …
    layer.matmul_add(down, hidden, x, exact)?;
    Ok((layer, [x, qs, ks, vs]))
}

/// What the slots hold in the end, by the reference: sums in f64.
fn on_cpu([q, k, v, o, gate, up, down]: &[PackedTensor; 7], x: &[f32]) -> Result<[Vec<f64>; 4]> {
    let times = |w, x: &[f64]| reference::matmul(w, &x.iter().map(|v| *v as f32).collect::<Vec<_>>());
    let plus = |x: &[f64], y: Vec<f64>| x.iter().zip(y).map(|(x, y)| x + y).collect::<Vec<_>>();
    let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let [q, k, v] = [times(q, &x)?, times(k, &x)?, times(v, &x)?];
    let x = plus(&x, times(o, &q)?);
    let gates = times(gate, &x)?.into_iter().map(|v| v / (1.0 + (-v).exp()));
    let hidden: Vec<f64> = gates.zip(times(up, &x)?).map(|(gate, up)| gate * up).collect();
    Ok([plus(&x, times(down, &hidden)?), q, k, v])
}
