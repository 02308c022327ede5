//! How an engine has the library in a page of its own: docs/web.md shows this file.

use qmatmul::file::Model;
use qmatmul::gpu::{BoundProgram, Tokens};
use qmatmul::{MatmulOptions, Runtime, wgpu};
use wasm_bindgen::prelude::*;

/// A weight of a model, bound once and multiplied as often as the page likes.
#[wasm_bindgen]
pub struct Projection(Runtime, BoundProgram, [wgpu::Buffer; 2], usize);

#[wasm_bindgen]
impl Projection {
    /// Of a file in memory, by the tensor's name, for up to 8 tokens at once.
    pub async fn load(file: Vec<u8>, name: String) -> Result<Projection, JsError> {
        let (gpu, model) = (Runtime::new_async().await?, Model::from_bytes("the page's model", file)?);
        let w = gpu.upload_async(&model.tensor(model.find(&name)?)?).await?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffers = [w.cols(), w.rows()].map(|width| {
            let (label, size) = (None, 8 * 4 * width as u64);
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label,
                size,
                usage,
                mapped_at_creation: false,
            })
        });
        let mut program = gpu.program(Tokens::UpTo(8));
        let (x, y) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
        program.matmul(&w, x, y, &MatmulOptions::default())?;
        let slots = [(x, (&buffers[0]).into()), (y, (&buffers[1]).into())];
        let bound = gpu.bind_async(&program, &slots).await?;
        Ok(Self(gpu, bound, buffers, w.cols()))
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ` for n = 1 to 8.
    pub async fn multiply(&self, x: Vec<f32>) -> Result<Vec<f32>, JsError> {
        let Self(gpu, bound, [input, output], k) = self;
        let bytes: Vec<u8> = x.iter().flat_map(|value| value.to_le_bytes()).collect();
        gpu.queue().write_buffer(input, 0, &bytes);
        bound.run_async(x.len() / k).await?;
        let part = output.size() / 8 * (x.len() / k) as u64;
        Ok(gpu.read_async(&qmatmul::gpu::Slice::of(output, 0..part)).await?)
    }
}
