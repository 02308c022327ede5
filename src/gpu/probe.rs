//! Whether an experimental feature does what it should: asked once, when a device is opened.

use super::bind;
use super::errors::DeviceErrors;
use crate::kernel::compose;

/// Lanes of the probe's workgroup: at least the largest subgroup there is.
const WORKGROUP: u32 = 128;

/// True if cooperative matrices of this edge multiply two matrices without symmetry right: not
/// transposed, with f32 sums.
pub(super) fn cooperative(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    errors: &DeviceErrors,
    edge: u32,
) -> bool {
    let doing = || "probing cooperative matrices".into();
    let result = errors.catch_errors(device, doing, 0, || run(device, queue, edge)).and_then(|staging| {
        errors.wait(device)?;
        Ok(staging.get_mapped_range(..).map(|view| bytemuck::cast_slice(&view).to_vec()))
    });
    match result {
        Ok(Ok::<Vec<f32>, _>(got)) if got == expected(edge) => true,
        Ok(_) => {
            log::warn!("cooperative matrices of {edge} x {edge} give wrong results: not used");
            false
        }
        Err(error) => {
            log::warn!("{error}: cooperative matrices are not used");
            false
        }
    }
}

/// What the shader computes, [column, row].
fn expected(edge: u32) -> Vec<f32> {
    let a = |row: u32, k: u32| 32.0 * (((((row * edge + k) * 7 + row) % 13) as f32) - 6.0) + 1.0;
    let b = |col: u32, k: u32| 16.0 * (((((col * edge + k) * 5 + 3 * col) % 11) as f32) - 5.0) + 3.0;
    let sum = |col: u32, row: u32| (0..edge).map(|k| 2.0 * a(row, k) * b(col, k)).sum();
    (0..edge * edge).map(|i| sum(i / edge, i % edge)).collect()
}

/// Submits the product; the buffer where it can be read once the device has ended its work.
fn run(device: &wgpu::Device, queue: &wgpu::Queue, edge: u32) -> wgpu::Buffer {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("probe"),
        source: wgpu::ShaderSource::Wgsl(compose::cooperative_probe(edge, WORKGROUP).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("probe"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let size = u64::from(edge * edge * 4);
    let buffer = |usage| {
        let descriptor =
            wgpu::BufferDescriptor { label: Some("probe"), size, usage, mapped_at_creation: false };
        device.create_buffer(&descriptor)
    };
    let y = buffer(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let group =
        bind::group(device, "probe", &pipeline.get_bind_group_layout(0), [(0, y.as_entire_binding())]);
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    encoder.copy_buffer_to_buffer(&y, 0, &staging, 0, size);
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |_| {});
    staging
}
