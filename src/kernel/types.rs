//! What a kernel is, what it is asked for, and what the choice of one may know about a device.

use super::activations::Activations;
use super::parameters::Field;
use super::parts::{self, Part, lookup_memory};
use crate::format::{Codes, Layout};

/// Weights that the decoders handle at once.
pub const CHUNK: usize = 32;

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `y[m, k] = w[m, k]` as f32.
    Dequantize,
    /// `y[i, k] = w[rows[i], k]` as f32.
    GetRows,
    /// `y[n, m] = x[n, k] · w[m, k]ᵀ`.
    Matmul,
    /// Codes of four bits and scales from f32 weights. Decodes none.
    Quantize,
    /// Columns of the batch sorted by their experts. Knows no weights.
    Route,
    /// A power of two for each row, which makes its weights fit f16.
    RowScales,
    /// Activations as a matmul kernel wants them. Knows no weights.
    Stage,
    /// Adds up what the splits of a matmul left. Knows no weights.
    Sum,
}

impl Operation {
    /// True if the kernel decodes weights.
    pub fn decodes(self) -> bool {
        matches!(self, Self::Dequantize | Self::GetRows | Self::Matmul | Self::RowScales)
    }
}

/// The kind of device a kernel is shaped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Graphics processors: neighbouring lanes read neighbouring words.
    Gpu,
    /// Software adapters: a lane is a row, no barriers.
    Software,
    /// Either.
    Any,
}

/// One kernel of [`KERNELS`](super::KERNELS): its WGSL and how it is configured for a device and a
/// request.
#[non_exhaustive]
pub struct Kernel {
    /// Name and file stem: `gemv`.
    pub name: &'static str,
    /// What it computes.
    pub operation: Operation,
    /// What it is shaped for. Every kernel gives the right answer on every device.
    pub family: Family,
    /// The activations that a matmul kernel can take.
    pub activations: &'static [Activations],
    /// True if the kernel rounds weights to f16.
    pub rounds_weights: bool,
    /// WGSL of the entry point, `shaders/op/<name>.wgsl`.
    pub shader: &'static str,
    /// The fields of its parameters.
    pub params: &'static [Field],
    /// The ways to compile it for a request: constants, library parts and geometry, the best guess
    /// first. None if the device lacks what it needs or the request does not suit it.
    pub configs: fn(&Caps, &Problem) -> Vec<KernelConfig>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kernel {
    /// The first configuration of a kernel for a problem; of most kernels it is the same for all.
    pub(super) fn first(&'static self, caps: &Caps, problem: &Problem) -> Candidate {
        Candidate { kernel: self, config: (self.configs)(caps, problem).swap_remove(0) }
    }

    /// The configuration of a kernel that has the same for every problem.
    pub(super) fn only(&'static self, caps: &Caps) -> Candidate {
        self.first(caps, &Problem::default())
    }
}

/// A request, as far as it decides about a kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem {
    /// Rows of the weight, `m`; of one expert where there are several.
    pub rows: usize,
    /// Columns of the weight, `k`.
    pub cols: usize,
    /// Columns of the batch, `n`.
    pub batch: usize,
    /// How the activations are taken.
    pub activations: Activations,
    /// The weight is a stack of experts, and each column of the batch is multiplied by one of them.
    pub experts: bool,
    /// Whether the shader gives codes and scales apart: [`Layout::codes`].
    pub codes: Codes,
    /// Codes are looked up in a book of sixteen: see [`Layout::is_looked_up`].
    pub looked_up: bool,
    /// The shader gives packed words that are numbers without a scale.
    pub raw_values: bool,
    /// Columns of the weight are taken from a list that only the device knows, side by side.
    pub gathered: bool,
    /// Activations are given as f16.
    pub half: bool,
    /// Activations do not lie so that four can be read at once.
    pub unaligned: bool,
    /// Results are multiplied by silu of a gate.
    pub silu: bool,
}

impl Problem {
    /// A product of `[batch, cols]` exact activations with weights `[rows, cols]` of this layout.
    pub fn of(layout: &Layout, rows: usize, cols: usize, batch: usize) -> Self {
        let (codes, looked_up) = (layout.codes, layout.is_looked_up());
        let raw_values = layout.format.has_raw_values();
        Self { rows, cols, batch, codes, looked_up, raw_values, ..Self::default() }
    }
}

/// A kernel, configured: what is compiled, and how much of the result one workgroup computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelConfig {
    /// What tells this from the kernel's other configurations: `4x64`; empty if there is one.
    pub variant: String,
    /// Constants at the head of the shader.
    pub constants: Vec<(&'static str, u32)>,
    /// Parts of `shaders/lib/` between the parameters and the decoder.
    pub parts: Vec<&'static Part>,
    /// The part of `shaders/lib/` that looks codes up, for formats with a book of sixteen.
    pub lookup: &'static Part,
    /// The part of `shaders/lib/` that makes f32 of codes that are numbers themselves.
    pub values: &'static Part,
    /// The part of `shaders/lib/` that loads four words of a weight at once.
    pub words: &'static Part,
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
    /// Weights of all its rows that a lane multiplies in one pass of its main loop; 0 where tools
    /// that count instructions can tell from the tile.
    pub lane_weights: u32,
    /// Upper bound of the loop iterations, nested ones included, that a lane spends on one chunk.
    pub loops_per_chunk: u32,
    /// Parts that k is cut into, each summed by other workgroups.
    pub splits: u32,
    /// Enable directives of the shader.
    pub enables: &'static [&'static str],
    /// Slots are parts of one buffer: all are declared as what is written, as a device refuses a
    /// buffer that a dispatch both reads and writes otherwise.
    pub one_buffer: bool,
}

/// A kernel and one of its configurations.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// How it is compiled.
    pub config: KernelConfig,
}

impl Candidate {
    /// `gemv`, or `gemv:4x64` where the kernel has variants.
    pub fn name(&self) -> String {
        match &*self.config.variant {
            "" => self.kernel.name.into(),
            variant => format!("{}:{variant}", self.kernel.name),
        }
    }
}

/// Who made a GPU, as far as it decides about kernels: what costs much on one costs little on
/// another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vendor {
    /// AMD.
    Amd,
    /// Apple.
    Apple,
    /// Intel.
    Intel,
    /// NVIDIA.
    Nvidia,
    /// Qualcomm.
    Qualcomm,
    /// Somebody else, or it is not known.
    #[default]
    Other,
}

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Amd, Self::Apple, Self::Intel, Self::Nvidia, Self::Qualcomm, Self::Other];

    /// `amd`, `apple`, `intel`, `nvidia`, `qualcomm` or `other`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Apple => "apple",
            Self::Intel => "intel",
            Self::Nvidia => "nvidia",
            Self::Qualcomm => "qualcomm",
            Self::Other => "other",
        }
    }

    /// The vendor of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.name() == name)
    }
}

/// What the choice of a kernel may know about a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// A software adapter.
    pub software: bool,
    /// Who made the GPU.
    pub vendor: Vendor,
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
    /// Integers of 64 bits.
    pub int64: bool,
    /// Arithmetic in f16.
    pub f16: bool,
    /// Products of packed bytes by WGSL's `dot4I8Packed`, whether the device has an instruction for
    /// it or not.
    pub int_dot: bool,
    /// Edge of the square cooperative matrices (f16 in, f32 sums) that were found to work.
    pub cooperative: Option<u32>,
    /// Loop iterations of one invocation, nested ones included, where a driver silently stops after
    /// so many.
    pub max_loops: Option<u32>,
}

impl KernelConfig {
    /// A configuration of so many lanes with nothing special about it.
    pub(super) fn new(workgroup: u32) -> Self {
        Self {
            variant: String::new(),
            constants: vec![],
            parts: vec![],
            lookup: &parts::LOOKUP_MEMORY,
            values: &parts::VALUES_MANTISSA,
            words: &parts::WORDS_32,
            workgroup,
            workgroup_memory: 0,
            rows: 1,
            columns: 1,
            lanes_along_k: 1,
            lane_weights: 0,
            loops_per_chunk: 1,
            splits: 1,
            enables: &[],
            one_buffer: false,
        }
    }

    /// Bytes of workgroup memory that the shader needs for weights of this layout.
    pub fn memory(&self, layout: &Layout) -> u32 {
        let looked_up = layout.is_looked_up();
        self.workgroup_memory + if looked_up { lookup_memory(self.lookup) } else { 0 }
    }
}

impl Caps {
    /// A GPU that can do everything, within WebGPU's usual limits. What a device lacks, or may not
    /// use, is taken out by [`Capability::take_out`](crate::gpu::Capability::take_out).
    pub fn everything() -> Self {
        Self {
            software: false,
            vendor: Vendor::Other,
            subgroup: Some((32, 32)),
            max_groups: 65_535,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            binding_alignment: 256,
            max_workgroup_memory: 16 << 10,
            max_workgroup: 256,
            int64: true,
            f16: true,
            int_dot: true,
            cooperative: Some(16),
            max_loops: None,
        }
    }

    /// The subgroup size, if it is the same for every dispatch and divides 32.
    pub fn fixed_subgroup(&self) -> Option<u32> {
        self.subgroup.and_then(|(min, max)| (min == max && 32 % min == 0 && min >= 4).then_some(min))
    }
}

/// How a matmul is carried out. The default: exact activations, and the kernel that is best for the
/// device.
///
/// ```
/// use qmatmul::{Activations, MatmulOptions, kernel};
///
/// let exact = MatmulOptions::default();
/// let rounded = MatmulOptions::with(Activations::Q8);
/// let mut this_one = MatmulOptions::with(Activations::F16);
/// this_one.kernel = kernel::by_name("gemv"); // no other, whatever was measured
/// assert_eq!(exact.activations, Activations::F32);
/// # assert!(rounded.kernel.is_none() && this_one.kernel.is_some());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MatmulOptions {
    /// How the activations are taken.
    pub activations: Activations,
    /// This kernel of [`KERNELS`](super::KERNELS) and no other.
    pub kernel: Option<&'static Kernel>,
    /// This [`KernelConfig::variant`] of it.
    pub variant: Option<String>,
}

impl MatmulOptions {
    /// The best kernel for `activations`.
    pub fn with(activations: Activations) -> Self {
        Self { activations, ..Self::default() }
    }

    /// True if `candidate` is one that these options allow.
    pub fn allow(&self, candidate: &Candidate) -> bool {
        self.kernel.is_none_or(|k| k.name == candidate.kernel.name)
            && self.variant.as_ref().is_none_or(|v| *v == candidate.config.variant)
    }
}

/// Batch columns compiled into a kernel: the next power of two, at most `most`.
pub(super) fn columns_for(batch: usize, most: u32) -> u32 {
    (batch.clamp(1, most as usize) as u32).next_power_of_two()
}
