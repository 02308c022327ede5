//! gemv: up to 8 columns per workgroup, lanes strided over k.

use crate::format::Codes;
use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::types::{
    CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem, Vendor, columns_for,
};

pub static KERNEL: Kernel = Kernel {
    name: "gemv",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &Activations::ALL,
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gemv.wgsl"),
    params: Params::FIELDS,
    configs,
};

/// The part of y that a workgroup computes, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    /// Rows of a lane.
    rows: u32,
    /// Lanes of the workgroup.
    lanes: u32,
    /// Activations go through workgroup memory.
    staged: bool,
}

impl Shape {
    const fn direct(rows: u32, lanes: u32) -> Self {
        Self { rows, lanes, staged: false }
    }

    const fn staged(rows: u32, lanes: u32) -> Self {
        Self { rows, lanes, staged: true }
    }

    /// Lanes that share the chunks of a row. Where activations are staged, as many others have
    /// other rows as there are columns: so the activations of several columns take as much
    /// workgroup memory as those of one, and more rows share them.
    fn along_k(self, columns: u32) -> u32 {
        if self.staged { self.lanes / columns } else { self.lanes }
    }
}

/// How codes become f32; its letter in names of variants.
type Values = (&'static str, &'static parts::Part);

const CONVERTED: Values = ("u", &parts::VALUES_CONVERTED);
const HALVES: Values = ("h", &parts::VALUES_HALVES);
const MANTISSA: Values = ("m", &parts::VALUES_MANTISSA);
const MIXED: Values = ("x", &parts::VALUES_MIXED);

/// What compilers of a vendor's GPUs make the fewest instructions of (`benches/README.md`). Sums of
/// activations, which conversion needs, pay for few columns only.
fn values(vendor: Vendor, columns: u32) -> Values {
    match vendor {
        Vendor::Apple => HALVES,
        Vendor::Amd | Vendor::Intel | Vendor::Qualcomm if columns <= 2 => CONVERTED,
        _ => MIXED,
    }
}

/// Shapes for several columns, and for one, which may be left over from them. The first is the best
/// guess for most.
const SEVERAL: &[Shape] = &[
    Shape::staged(4, 64),
    Shape::staged(2, 64),
    Shape::staged(4, 32),
    Shape::direct(4, 64),
    Shape::direct(2, 64),
    Shape::direct(1, 64),
];

/// Shapes for one column alone: sums for several of eight rows are too many registers.
const ONE_COLUMN: &[Shape] = &[Shape::direct(8, 32), Shape::staged(8, 32), Shape::direct(4, 32)];

/// The best guess for a vendor's GPUs.
fn first(vendor: Vendor, columns: u32) -> Shape {
    match (columns, vendor) {
        (1, Vendor::Nvidia | Vendor::Apple) => Shape::staged(4, 64),
        // More than 64 registers halve the lanes of a core there, whether it is one more or all.
        (1, Vendor::Intel) => Shape::direct(6, 32),
        (1, _) => Shape::direct(4, 64),
        // Sums for eight columns of four rows are too many registers.
        (8, Vendor::Apple | Vendor::Intel | Vendor::Qualcomm) => Shape::staged(2, 64),
        _ => Shape::staged(4, 64),
    }
}

/// The best guess first. All that there is for several columns is there for fewer as well, which
/// may be left over from them: a user may ask for it by name.
fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let columns = columns_for(request.batch, 8);
    let is_codes = is_codes(request);
    // Codes are a third of the bytes, or less, and lie so that neighbours read neighbours.
    let suits = |shape: &Shape| !(shape.staged && is_codes);
    let alone = if columns == 1 { ONE_COLUMN } else { &[] };
    let best = match request.activations {
        // Twelve vec4 of activations for each column.
        Activations::Q24 if columns > 2 => Shape::direct(2, 64),
        _ => first(caps.vendor, columns),
    };
    let mut shapes: Vec<Shape> = vec![];
    for shape in [best].iter().chain(SEVERAL).chain(alone) {
        if suits(shape) && !shapes.contains(shape) {
            shapes.push(*shape);
        }
    }
    let new = |shape: &Shape, values| config(caps, request, columns, *shape, values);
    let values_of = |columns| values(caps.vendor, columns);
    let mut all: Vec<_> = shapes.iter().map(|shape| new(shape, values_of(columns))).collect();
    if is_codes || request.codes == Codes::None || request.gathered {
        return all;
    }
    if request.looked_up {
        let pairs = |shape: &Shape| {
            let single = new(shape, MIXED);
            let variant = format!("{}-pair", single.variant);
            KernelConfig { variant, lookup: &parts::LOOKUP_BYTES, ..single }
        };
        all.extend([Shape::direct(4, 64), Shape::staged(4, 64)].iter().map(pairs));
        return all;
    }
    let others = [values_of(1), values_of(8)].into_iter().filter(|other| *other != values_of(columns));
    for other in others {
        all.extend(SEVERAL.iter().map(|shape| new(shape, other)));
    }
    let seldom = [CONVERTED, HALVES, MANTISSA];
    let seldom = seldom.into_iter().filter(|v| *v != values_of(1) && *v != values_of(8));
    all.extend(seldom.map(|values| new(&SEVERAL[0], values)));
    all
}

/// True if activations are taken as integers.
fn is_codes(request: &Problem) -> bool {
    matches!(request.activations, Activations::Q8 | Activations::Q24)
}

fn config(caps: &Caps, request: &Problem, columns: u32, shape: Shape, values: Values) -> KernelConfig {
    let Shape { rows, lanes, staged } = shape;
    let along_k = shape.along_k(columns);
    let (reduce, slots) = match caps.subgroup {
        Some((4.., _)) if along_k == lanes => (&parts::REDUCE_SUBGROUP, lanes / 4),
        _ => (&parts::REDUCE_WORKGROUP, lanes),
    };
    // Sums of as many columns at once as 2 KiB of workgroup memory hold.
    let sum_columns = columns.min(1 << (2048 / (4 * rows * slots)).max(1).ilog2());
    let sums = rows * sum_columns;
    let is_codes = is_codes(request);
    let has_style = !is_codes && !request.looked_up && !request.gathered && request.codes != Codes::None;
    let weights = match request.codes {
        _ if is_codes => &parts::WEIGHTS_CODES,
        _ if request.gathered => &parts::WEIGHTS_DECODED,
        Codes::None if request.raw_values => &parts::WEIGHTS_VALUES,
        Codes::None => &parts::WEIGHTS_DECODED,
        _ => &parts::WEIGHTS_RAW,
    };
    let whole = !request.gathered && request.cols.is_multiple_of(CHUNK * along_k as usize);
    let mut parts = compose::x(caps, request);
    parts.push(weights);
    match is_codes {
        true => parts.push(&parts::ADD_CODES),
        false => parts.extend([if staged { &parts::X_STAGED } else { &parts::X_DIRECT }, &parts::ADD_VALUES]),
    }
    parts.extend(compose::tiles(request));
    parts.push(reduce);
    let tile = if staged { columns * along_k * 9 * 16 } else { 0 };
    let style = if has_style { values.0 } else { "" };
    KernelConfig {
        variant: format!("{rows}x{lanes}{style}{}", if staged { "s" } else { "" }),
        constants: vec![
            ("ROWS", rows),
            ("COLS", columns),
            ("SUM_COLS", sum_columns),
            ("SUMS", sums),
            ("K_LANES", along_k),
            ("WHOLE_PASSES", u32::from(whole)),
        ],
        parts,
        values: values.1,
        lookup: if is_codes { &parts::LOOKUP_INTEGERS } else { &parts::LOOKUP_MEMORY },
        workgroup_memory: sums * slots * 4 + tile,
        rows: rows * (lanes / along_k),
        columns,
        lanes_along_k: along_k,
        lane_weights: 32 * rows,
        loops_per_chunk: 1 + 2 * rows + columns * 8 * (2 + rows) + 2 * rows * columns,
        ..KernelConfig::new(lanes)
    }
}
