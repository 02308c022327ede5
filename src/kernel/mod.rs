//! What is computed: one module per kernel, the composition of its WGSL, the choice of a kernel for a request, and the
//! plan that turns the request into dispatches. Nothing here names wgpu: the device is a [`Caps`].

pub(crate) mod clear_columns;
pub mod compose;
mod dequantize;
mod gather_act_order;
pub(crate) mod gather_columns;
mod gather_outliers;
mod gemm;
mod gemm_coop;
mod gemm_q8;
mod gemv;
mod get_rows;
pub mod llm_int8;
mod matmul_software;
mod outlier_list;
mod outlier_mask;
pub mod plan;
mod quantize_activations_int8;
mod quantize_activations_int8_f32;
mod quantize_activations_int8_one;
pub mod quantize_activations_q8;
mod quantize_four_bit;
mod reduce_split_k;
pub mod reference;
pub mod round_activations_f16;
mod route_experts;
mod row_scales;
#[cfg(test)]
pub(crate) mod tests;

use crate::error::{Error, Result};
use crate::format::{Codes, Format, Layout};
use compose::Part;

/// Every kernel, one row a line, sorted.
pub static KERNELS: &[&Kernel] = &[
    &clear_columns::KERNEL,
    &dequantize::KERNEL,
    &gather_act_order::KERNEL,
    &gather_columns::KERNEL,
    &gather_outliers::KERNEL,
    &gemm::KERNEL,
    &gemm_coop::KERNEL,
    &gemm_q8::KERNEL,
    &gemv::KERNEL,
    &get_rows::KERNEL,
    &matmul_software::KERNEL,
    &outlier_list::KERNEL,
    &outlier_mask::KERNEL,
    &quantize_activations_int8::KERNEL,
    &quantize_activations_int8_f32::KERNEL,
    &quantize_activations_int8_one::KERNEL,
    &quantize_activations_q8::KERNEL,
    &quantize_four_bit::KERNEL,
    &reduce_split_k::KERNEL,
    &round_activations_f16::KERNEL,
    &route_experts::KERNEL,
    &row_scales::KERNEL,
];

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// How a matmul takes its activations. Sums are in f32, or in i32 within 32 products of codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// As they are.
    #[default]
    F32,
    /// Rounded to f16 after a power of two has been taken out of each column, so that none overflows.
    F16,
    /// Rounded to eight bits with a scale for each 32, and multiplied as integers.
    Q8,
    /// LLM.int8: rounded to eight bits with a scale for each column, and multiplied as integers, but for the features that reach
    /// the threshold in any column of the batch, which are taken as they are. For INT8 weights.
    Int8(Threshold),
}

/// From which magnitude on LLM.int8 leaves an activation out of its integers; 0 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Threshold(u32);

impl Threshold {
    /// A threshold of 0 or more.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is negative or no number.
    pub fn new(value: f32) -> Result<Self> {
        match value >= 0.0 && value.is_finite() {
            true => Ok(Self(value.abs().to_bits())),
            false => Err(Error::Argument(format!("a threshold is 0 or more, not {value}"))),
        }
    }

    /// The number.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }

    /// False if nothing is an outlier.
    pub fn is_some(self) -> bool {
        self.value() > 0.0
    }
}

/// That of transformers.
impl Default for Threshold {
    fn default() -> Self {
        Self(6f32.to_bits())
    }
}

impl Activations {
    /// Those that kernels are written for, the exact one first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Those that the kernel of the weights takes: LLM.int8's integers are multiplied by a kernel of eight-bit activations.
    pub fn of_kernels(self) -> Self {
        match self {
            Self::Int8(_) => Self::Q8,
            other => other,
        }
    }

    /// `f32`, `f16`, `q8` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Int8(_) => "int8",
        }
    }
}

/// Parses the name of [`Activations`], in any case.
impl std::str::FromStr for Activations {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .chain([Self::Int8(Threshold::default())])
            .find(|a| a.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::Argument(format!("activations are f32, f16, q8 or int8, not `{name}`")))
    }
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
    /// The activations that a matmul kernel can take.
    pub activations: &'static [Activations],
    /// True if the kernel rounds weights to f16.
    pub rounds_weights: bool,
    /// WGSL of the entry point, `shaders/kernel/<name>.wgsl`.
    pub shader: &'static str,
    /// The ways to compile it for a request: constants, library parts and geometry, the best guess first. None if the device
    /// lacks what it needs or the request does not suit it.
    pub configs: fn(&Caps, &Problem) -> Vec<KernelConfig>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
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
    /// Columns of the weight are taken from a list that only the device knows, side by side.
    pub gathered: bool,
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
    /// Upper bound of the loop iterations, nested ones included, that a lane spends on one chunk.
    pub loops_per_chunk: u32,
    /// Parts that k is cut into, each summed by other workgroups.
    pub splits: u32,
    /// Enable directives of the shader.
    pub enables: &'static [&'static str],
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
    /// Integers of 64 bits.
    pub int64: bool,
    /// Arithmetic in f16.
    pub f16: bool,
    /// Products of packed bytes by WGSL's `dot4I8Packed`, whether the device has an instruction for it or not.
    pub int_dot: bool,
    /// Edge of the square cooperative matrices (f16 in, f32 sums) that were found to work.
    pub cooperative: Option<u32>,
    /// Loop iterations of one invocation, nested ones included, where a driver silently stops after so many.
    pub max_loops: Option<u32>,
}

/// Bytes of workgroup memory of a part that looks codes up.
fn lookup_memory(part: &Part) -> u32 {
    match part.path {
        "shaders/lib/lookup_memory.wgsl" => 16 * 4,
        "shaders/lib/lookup_bytes.wgsl" => 256 * 8,
        _ => 0,
    }
}

impl KernelConfig {
    /// A configuration of so many lanes with nothing special about it.
    fn new(workgroup: u32) -> Self {
        Self {
            variant: String::new(),
            constants: vec![],
            parts: vec![],
            lookup: &compose::LOOKUP_MEMORY,
            words: &compose::WORDS_32,
            workgroup,
            workgroup_memory: 0,
            rows: 1,
            columns: 1,
            lanes_along_k: 1,
            loops_per_chunk: 1,
            splits: 1,
            enables: &[],
        }
    }

    /// Bytes of workgroup memory that the shader needs for weights of this layout.
    pub fn memory(&self, layout: &Layout) -> u32 {
        let looked_up = layout.is_looked_up();
        self.workgroup_memory + if looked_up { lookup_memory(self.lookup) } else { 0 }
    }
}

impl Caps {
    /// The subgroup size, if it is the same for every dispatch and divides 32.
    pub fn fixed_subgroup(&self) -> Option<u32> {
        self.subgroup.and_then(|(min, max)| (min == max && 32 % min == 0 && min >= 4).then_some(min))
    }
}

/// How a matmul is carried out. The default: exact activations, and the kernel that is best for the device.
#[derive(Clone, Debug, Default)]
pub struct MatmulOptions {
    /// How the activations are taken.
    pub activations: Activations,
    /// This kernel of [`KERNELS`] and no other.
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

/// The first candidate for a matmul of `w` that `options` allow and `preferred` names, or else just the first.
///
/// # Errors
/// [`Error::Argument`] if there is none, saying why.
pub fn choose(
    caps: &Caps,
    format: &Format,
    request: &Problem,
    options: &MatmulOptions,
    preferred: Option<&str>,
) -> Result<Candidate> {
    // Every call of a matmul comes here: kernels behind the one that is taken are not configured.
    let mut allowed = ways(caps, request).filter(|c| options.allow(c)).peekable();
    let first = allowed.peek().cloned();
    let named = preferred.and_then(|name| allowed.find(|c| c.name() == name));
    if let Some(candidate) = named.or(first) {
        return Ok(candidate);
    }
    let kernel = options.kernel.map_or("", |k| k.name);
    let activations = request.activations.name();
    Err(Error::Argument(match (options.kernel, &options.variant) {
        _ if request.activations == Activations::Q8 && request.codes != Codes::Integers => {
            let name = format.name;
            format!(
                "these {name} weights give no signed codes of eight bits by 32, so {activations} activations do not apply"
            )
        }
        (Some(k), _) if k.operation != Operation::Matmul => format!("kernel {kernel} does not multiply"),
        (Some(k), _) if !k.activations.contains(&request.activations) => {
            format!("kernel {kernel} does not take {activations} activations")
        }
        (Some(_), Some(variant)) => {
            format!("kernel {kernel} has no variant `{variant}` for this device and shape")
        }
        (Some(_), None) => format!("kernel {kernel} needs more than this device has, or is allowed to use"),
        _ => format!("no kernel multiplies {} by {activations} activations on this device", format.name),
    }))
}

/// Every way to carry out a matmul, the best guess first.
pub fn candidates(caps: &Caps, request: &Problem) -> Vec<Candidate> {
    ways(caps, request).collect()
}

/// [`candidates`], each kernel configured when its turn comes.
fn ways(caps: &Caps, request: &Problem) -> impl Iterator<Item = Candidate> {
    let codes = request.activations != Activations::Q8 || request.codes == Codes::Integers;
    let able = |k: &&&'static Kernel| {
        codes && k.operation == Operation::Matmul && k.activations.contains(&request.activations)
    };
    let mut kernels: Vec<&'static Kernel> = KERNELS.iter().filter(able).copied().collect();
    kernels.sort_by_key(|k| rank(k, caps, request));
    let configs = |kernel: &'static Kernel| {
        (kernel.configs)(caps, request).into_iter().map(move |config| Candidate { kernel, config })
    };
    kernels.into_iter().flat_map(configs).filter(|c| fits(c, caps))
}

/// The order in which kernels are guessed to be fast.
fn rank(kernel: &Kernel, caps: &Caps, request: &Problem) -> u32 {
    let wanted = if caps.software { Family::Software } else { Family::Gpu };
    let narrow = kernel.name == gemv::KERNEL.name;
    let suits = if request.batch <= 8 { narrow } else { !narrow };
    u32::from(kernel.family != wanted) * 4 + u32::from(!suits) * 2 + u32::from(!kernel.rounds_weights)
}

/// False if the device's limits on workgroups rule the candidate out. wgpu does not check them where they depend on constants,
/// and a driver may take them and fail.
fn fits(candidate: &Candidate, caps: &Caps) -> bool {
    let config = &candidate.config;
    config.workgroup <= caps.max_workgroup
        && config.workgroup_memory + lookup_memory(config.lookup) <= caps.max_workgroup_memory
}

/// The kernel of this name.
pub fn by_name(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().find(|k| k.name.eq_ignore_ascii_case(name))
}

/// Batch columns compiled into a kernel: the next power of two, at most `most`.
fn columns_for(batch: usize, most: u32) -> u32 {
    (batch.clamp(1, most as usize) as u32).next_power_of_two()
}
