//! How many operations a second the device's arithmetic reaches when nothing waits for memory.

use super::Arithmetic;
use super::probe::{Lab, Params, Shader};
use crate::error::{Error, Result};
use crate::gpu::transfer;
use crate::kernel::Caps;
use crate::kernel::compose::cooperative_types;

/// A kind of arithmetic: a shader that does nothing else.
struct Kind {
    name: &'static str,
    available: fn(&Caps) -> bool,
    header: fn() -> String,
    shader: &'static str,
    /// Operations of one invocation in one of its steps.
    operations: fn(&Caps) -> f64,
    /// What the invocation `lane` must have computed after so many steps.
    expected: fn(lane: u32, steps: u32) -> [u32; 4],
}

const COOPERATIVE: &str = include_str!("../../../shaders/peak/cooperative.wgsl");
const FMA: &str = include_str!("../../../shaders/peak/fma.wgsl");

/// One row per kind; `shaders/peak/fma.wgsl` says what a step is.
const KINDS: &[Kind] = &[
    Kind {
        name: "f32 fma",
        available: |_| true,
        header: || "alias T = f32;\n".into(),
        shader: FMA,
        operations: |_| 16.0 * 2.0,
        expected: counted,
    },
    Kind {
        name: "f16 fma",
        available: |caps| caps.f16,
        header: || "enable f16;\nalias T = f16;\n".into(),
        shader: FMA,
        operations: |_| 16.0 * 2.0,
        expected: counted,
    },
    Kind {
        name: "int8 dot",
        available: |caps| caps.int_dot,
        header: String::new,
        shader: include_str!("../../../shaders/peak/dot.wgsl"),
        operations: |_| 8.0 * 8.0,
        expected: dotted,
    },
    Kind {
        name: "f16 matrices 8x8",
        available: |caps| caps.cooperative == Some(8),
        header: || cooperative_types(8),
        shader: COOPERATIVE,
        operations: |caps| multiplied(8, caps),
        expected: |_, steps| [1, 2, 3, 4].map(|factor| ((8 * factor * steps) as f32).to_bits()),
    },
    Kind {
        name: "f16 matrices 16x16",
        available: |caps| caps.cooperative == Some(16),
        header: || cooperative_types(16),
        shader: COOPERATIVE,
        operations: |caps| multiplied(16, caps),
        expected: |_, steps| [1, 2, 3, 4].map(|factor| ((16 * factor * steps) as f32).to_bits()),
    },
];

/// Operations of a step in which a subgroup multiplies four pairs of matrices, shared out over its
/// lanes. Where subgroups may differ in size, of the largest: the figure is then too low, never too
/// high.
fn multiplied(edge: u32, caps: &Caps) -> f64 {
    let lanes = caps.subgroup.map_or(1, |(_, most)| most);
    4.0 * 2.0 * f64::from(edge.pow(3)) / f64::from(lanes)
}

/// Iterations of a probe's loop: f16 counts to 2048 exactly, and four steps an iteration must stay
/// below that.
const ITERATIONS: u32 = 256;
const STEPS: u32 = 4 * ITERATIONS;

/// All kinds that the device has.
pub async fn all(lab: &Lab<'_>, seconds: f64) -> Result<Vec<Arithmetic>> {
    let available = KINDS.iter().filter(|kind| (kind.available)(lab.context.caps()));
    let mut rows = vec![];
    for kind in available {
        rows.push(measure(lab, kind, seconds).await?);
    }
    Ok(rows)
}

async fn measure(lab: &Lab<'_>, kind: &Kind, seconds: f64) -> Result<Arithmetic> {
    let caps = lab.context.caps();
    // GPUs hide latency with many lanes; a software driver's workgroup is a loop, which a
    // subgroup's worth keeps short.
    let (lanes, groups) = match caps.software {
        true => (caps.subgroup.map_or(8, |(_, most)| most), 64),
        false => (256.min(caps.max_workgroup), 1024),
    };
    let header = format!("{}const LANES = {lanes}u;\n", (kind.header)());
    let shader = Shader { name: kind.name, text: kind.shader, header: &header };
    let output = |what| transfer::buffer(lab.context, what, u64::from(lanes * groups) * 16, transfer::OUTPUT);
    let (unused, result) = (output("a probe's input")?, output("a probe's results")?);
    let params = Params { iterations: ITERATIONS, ..Params::default() };
    let work = lab.work(&shader, params, (&unused, &result), groups)?;
    let unit = lab.best(&work, seconds).await?;
    verify(lab, kind, &result, lanes).await?;
    let operations = f64::from(lanes * groups) * f64::from(STEPS) * (kind.operations)(caps);
    Ok(Arithmetic { kind: kind.name, tera_ops: operations / unit * 1e-12 })
}

/// Speed without the right result is no speed.
async fn verify(lab: &Lab<'_>, kind: &Kind, result: &wgpu::Buffer, lanes: u32) -> Result<()> {
    let mut encoder = lab.context.encoder();
    let count = lanes as usize * 4;
    let staging = transfer::stage(lab.context, &mut encoder, "a probe's results", result, count as u64 * 4)?;
    let got = transfer::submit_and_read(lab.context, encoder, &staging, count).await?;
    for (lane, got) in got.as_chunks::<4>().0.iter().enumerate() {
        let (got, want) = (got.map(f32::to_bits), (kind.expected)(lane as u32, STEPS));
        if got != want {
            let message = format!("invocation {lane} computed {got:?}, wanted {want:?}");
            return Err(Error::Gpu { doing: format!("measuring {}", kind.name), message });
        }
    }
    Ok(())
}

/// Sums of the four accumulators of `fma.wgsl`, each of which counts its steps from its own start.
fn counted(lane: u32, steps: u32) -> [u32; 4] {
    [0, 1, 2, 3].map(|component| (0..4).map(|chain| lane % 8 + chain + component + steps).sum())
}

/// What `dot.wgsl` computes, in the same order.
fn dotted(lane: u32, steps: u32) -> [u32; 4] {
    let first = (lane % 8).wrapping_mul(0x0101_0101) as i32;
    let chain = |number: i32| {
        (0..steps).fold(first.wrapping_add(number), |acc, _| acc.wrapping_add(dot(acc as u32, 0x0305_fd07)))
    };
    [1, 2, 3, 4].map(|number| (chain(number) ^ chain(number + 4)) as u32)
}

/// `dot4I8Packed`.
fn dot(a: u32, b: u32) -> i32 {
    a.to_le_bytes().iter().zip(b.to_le_bytes()).map(|(a, b)| i32::from(*a as i8) * i32::from(b as i8)).sum()
}
