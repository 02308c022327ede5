//! What is computed: one module per kernel, the composition of its WGSL, the choice of a kernel for a request, and the
//! plan that turns the request into dispatches. Nothing here names wgpu: the device is a [`Caps`].

pub mod compose;
mod dequantize;
mod gemm;
mod gemv;
mod get_rows;
mod matmul_rows;
pub mod plan;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::format::{Book, Format};
use compose::Part;

/// Every kernel, one row a line, sorted.
pub static KERNELS: &[&Kernel] =
    &[&dequantize::KERNEL, &gemm::KERNEL, &gemv::KERNEL, &get_rows::KERNEL, &matmul_rows::KERNEL];

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `y[m, k] = w[m, k]` as f32.
    Dequantize,
    /// `y[i, k] = w[rows[i], k]` as f32.
    GetRows,
    /// `y[n, m] = x[n, k] · w[m, k]ᵀ`.
    Matmul,
}

/// The kind of device a kernel is shaped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Graphics processors: neighbouring lanes read neighbouring words.
    Gpu,
    /// Software adapters: a lane is a row, no barriers.
    Software,
    /// Either.
    Any,
}

/// One kernel of [`KERNELS`]: its WGSL and how it is configured for a device and a request.
#[non_exhaustive]
pub struct Kernel {
    /// Name and file stem: `gemv`.
    pub name: &'static str,
    /// What it computes.
    pub operation: Operation,
    /// What it is shaped for. Every kernel gives the right answer on every device.
    pub family: Family,
    /// WGSL of the entry point, `shaders/kernel/<name>.wgsl`.
    pub shader: &'static str,
    /// The compiled constants, library parts and geometry for a request.
    pub configure: fn(&Caps, &Request) -> Config,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The size of a request, as far as it decides about a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Columns of the weight, `k`.
    pub cols: usize,
    /// Columns of the batch, `n`.
    pub batch: usize,
}

/// A kernel, configured: what is compiled, and how much of the result one workgroup computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Constants at the head of the shader.
    pub constants: Vec<(&'static str, u32)>,
    /// Parts of `shaders/lib/` between the parameters and the decoder.
    pub parts: Vec<&'static Part>,
    /// The part of `shaders/lib/` that looks codes up, for formats with a book of sixteen.
    pub lookup: &'static Part,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// Bytes of workgroup memory, less those of the lookup.
    pub workgroup_memory: u32,
    /// Rows (of the weight) that a workgroup computes.
    pub rows: u32,
    /// Columns (of the batch) that a workgroup computes.
    pub columns: u32,
    /// How many lanes share the chunks of a row.
    pub lanes_along_k: u32,
    /// Upper bound of the loop iterations, nested ones included, that a lane spends on one chunk.
    pub loops_per_chunk: u32,
}

/// What the choice of a kernel may know about a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// A software adapter.
    pub software: bool,
    /// Smallest and largest subgroup, if subgroup operations are there.
    pub subgroup: Option<(u32, u32)>,
    /// Workgroups in one dimension of a dispatch.
    pub max_groups: u32,
    /// Bytes of one storage binding.
    pub max_binding: u64,
    /// Bytes of one buffer.
    pub max_buffer: u64,
    /// Alignment of the start of a storage binding in bytes.
    pub binding_alignment: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub max_workgroup: u32,
    /// Loop iterations of one invocation, nested ones included, where a driver silently stops after so many.
    pub max_loops: Option<u32>,
}

/// Bytes of workgroup memory of `shaders/lib/lookup_memory.wgsl`.
const LOOKUP_MEMORY: u32 = 64;

impl Config {
    /// Bytes of workgroup memory that the shader needs for `format`.
    pub fn memory(&self, format: &Format) -> u32 {
        let in_memory = std::ptr::eq(self.lookup, &raw const compose::LOOKUP_MEMORY);
        let lookup = matches!(format.book, Book::Sixteen(_)) && in_memory;
        self.workgroup_memory + if lookup { LOOKUP_MEMORY } else { 0 }
    }
}

impl Caps {
    /// The subgroup size, if it is the same for every dispatch and divides 32.
    pub fn fixed_subgroup(&self) -> Option<u32> {
        self.subgroup.and_then(|(min, max)| (min == max && 32 % min == 0 && min >= 4).then_some(min))
    }
}

/// The kernel for a matmul on this device.
pub fn choose_matmul(caps: &Caps, request: &Request) -> &'static Kernel {
    match (caps.software, request.batch) {
        (true, _) => &matmul_rows::KERNEL,
        (false, ..=8) => &gemv::KERNEL,
        (false, _) => &gemm::KERNEL,
    }
}

/// The kernel of this name.
pub fn by_name(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().find(|k| k.name.eq_ignore_ascii_case(name))
}

/// Batch columns compiled into a kernel: the next power of two, at most `most`.
fn columns_for(batch: usize, most: u32) -> u32 {
    (batch.clamp(1, most as usize) as u32).next_power_of_two()
}
