//! What a replay costs the host, beside the same calls by hand.
//!
//! `cargo bench --bench replay` binds a program of 225 matmuls, as many as a token of an 8B model
//! needs, and records it for one token; by hand, 225 bind groups with as many bindings are recorded
//! with a pipeline of plain wgpu. Both take turns, so that what else the machine does touches both.
//! Times are of the host alone: nothing is submitted. `--most MICROSECONDS` makes it an error if a
//! dispatch of ours costs so much more.

use qmatmul::gpu::{BoundProgram, Slice, Tokens};
use qmatmul::{Error, MatmulOptions, PackedTensor, Recipe, Result, Runtime, format, wgpu};
use std::time::Instant;

/// Matmuls of a token: seven in each of 32 layers, and the output.
const MATMULS: usize = 225;
/// Rounds, in which both are timed once.
const ROUNDS: usize = 300;
/// Features and outputs of each weight: small, as nothing is computed.
const SIZE: usize = 256;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let most = arguments.iter().position(|a| a == "--most").and_then(|at| arguments.get(at + 1));
    let most: Option<f64> = most.and_then(|text| text.parse().ok());
    let gpu = Runtime::new()?;
    println!("{}", gpu.adapter());
    let host = Host::new(&gpu)?;
    let replay = host.bound()?;
    let dispatches = replay.dispatch_count(1);
    let hand = ByHand::new(&host, dispatches);
    let once = || -> Result<f64> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let start = Instant::now();
        for (w, y) in host.weights.iter().zip(&host.outputs) {
            gpu.record_matmul(&mut encoder, w, &host.x, y, 1)?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        theirs.push(in_a_pass(&gpu, |pass| {
            hand.record(pass);
            Ok(())
        })?);
        ours.push(in_a_pass(&gpu, |pass| replay.record(pass, 1))?);
    }
    let per_dispatch = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        1e6 * seconds[seconds.len() / 2] / dispatches as f64
    };
    let (ours, theirs) = (per_dispatch(&mut ours), per_dispatch(&mut theirs));
    let anew = 1e6 * once()? / MATMULS as f64;
    println!("{MATMULS} matmuls, {dispatches} dispatches, {ROUNDS} rounds; medians in µs a dispatch");
    println!("  by hand       {theirs:.3}");
    println!("  replayed      {ours:.3}, {:+.3}", ours - theirs);
    println!("  made anew     {anew:.3} (Runtime::record_matmul, one round)");
    match most {
        Some(most) if ours - theirs > most => {
            Err(Error::Argument(format!("a dispatch costs {:.3} µs more, above {most}", ours - theirs)))
        }
        _ => Ok(()),
    }
}

/// Seconds that it takes to fill a pass and to end it.
fn in_a_pass(gpu: &Runtime, record: impl FnOnce(&mut wgpu::ComputePass) -> Result<()>) -> Result<f64> {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let start = Instant::now();
    let mut pass = encoder.begin_compute_pass(&Default::default());
    record(&mut pass)?;
    drop(pass);
    Ok(start.elapsed().as_secs_f64())
}

/// Weights and buffers.
struct Host<'a> {
    gpu: &'a Runtime,
    weights: Vec<qmatmul::Weights>,
    x: wgpu::Buffer,
    outputs: Vec<wgpu::Buffer>,
}

impl<'a> Host<'a> {
    fn new(gpu: &'a Runtime) -> Result<Self> {
        let values = vec![0.5; SIZE * SIZE];
        let packed = PackedTensor::encode("w", [SIZE, SIZE], &values, &Recipe::new(format::Q4_0))?;
        let weights = (0..MATMULS).map(|_| gpu.upload(&packed)).collect::<Result<_>>()?;
        let outputs = (0..MATMULS).map(|_| buffer(gpu)).collect();
        Ok(Self { gpu, weights, x: buffer(gpu), outputs })
    }

    fn bound(&self) -> Result<BoundProgram> {
        let mut program = self.gpu.program(Tokens::UpTo(8));
        let x = program.slot("x", SIZE);
        let mut slots = vec![(x, Slice::from(&self.x))];
        for (w, buffer) in self.weights.iter().zip(&self.outputs) {
            let y = program.slot("y", SIZE);
            program.matmul(w, x, y, &MatmulOptions::default())?;
            slots.push((y, buffer.into()));
        }
        self.gpu.bind(&program, &slots)
    }
}

/// Room for eight tokens.
fn buffer(gpu: &Runtime) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 8 * SIZE as u64 * 4,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

/// Dispatches of plain wgpu, with the bindings of a product: parameters, a span at an offset, a
/// weight as words and as vectors, activations and results.
struct ByHand {
    pipeline: wgpu::ComputePipeline,
    groups: Vec<wgpu::BindGroup>,
}

const SHADER: &str = "
@group(0) @binding(0) var<uniform> params: vec4<u32>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<uniform> span: vec2<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x] + f32(w[id.x] + w4[id.x].x + params.x + span.x);
}";

impl ByHand {
    fn new(host: &Host, count: usize) -> Self {
        let device = host.gpu.device();
        let entry = |(binding, ty, has_dynamic_offset)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        };
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let entries = [
            (0, wgpu::BufferBindingType::Uniform, false),
            (1, storage(true), false),
            (2, storage(true), false),
            (3, storage(true), false),
            (4, storage(false), false),
            (8, wgpu::BufferBindingType::Uniform, true),
        ]
        .map(entry);
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = device.create_bind_group_layout(&descriptor);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SHADER.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            })),
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |usage| {
            let size = 1 << 16;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let params = buffer(wgpu::BufferUsages::UNIFORM);
        let group = |i: usize| {
            let w = buffer(wgpu::BufferUsages::STORAGE);
            let uniform = || {
                let size = wgpu::BufferSize::new(16);
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &params, offset: 0, size })
            };
            let y = &host.outputs[i % MATMULS];
            let resources = [
                (0, uniform()),
                (1, w.as_entire_binding()),
                (2, w.as_entire_binding()),
                (3, host.x.as_entire_binding()),
                (4, y.as_entire_binding()),
                (8, uniform()),
            ];
            let entries = resources.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
            device.create_bind_group(&descriptor)
        };
        let groups = (0..count).map(group).collect();
        Self { pipeline, groups }
    }

    fn record(&self, pass: &mut wgpu::ComputePass) {
        for group in &self.groups {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, group, &[0]);
            pass.dispatch_workgroups(4, 1, 1);
        }
    }
}
